//! Which images go: values in, a list of ids out.

use std::collections::HashMap;

use atoll_model::Timestamp;
use atoll_oci::Digest;
use atoll_store::{Part, Parts};

/// An image, as far as it matters for whether it goes.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) id: Digest,
    /// What it keeps on the disk.
    pub(super) parts: Parts,
    /// Whether it has no name.
    pub(super) is_dangling: bool,
    /// Whether a workload uses it, somebody pinned it, or it is just on its way.
    pub(super) stays: bool,
    pub(super) last_used: Timestamp,
}

/// The images that go so that `bytes` become free, in this order: those without a name first, then those with one, of both what
/// was used longest ago first; none that was used since `young`. What several keep becomes free with the last of them.
pub(super) fn choose(bytes: u64, young: Timestamp, images: &[Candidate]) -> Vec<Digest> {
    let mut keepers: HashMap<&Part, usize> = HashMap::new();
    for part in images.iter().flat_map(|image| image.parts.keys()) {
        *keepers.entry(part).or_default() += 1;
    }
    let mut idle: Vec<_> = images.iter().filter(|image| !image.stays && image.last_used < young).collect();
    idle.sort_by_key(|image| (!image.is_dangling, image.last_used, image.id.to_string()));
    let (mut going, mut freed) = (Vec::new(), 0);
    for image in idle {
        if freed >= bytes {
            break;
        }
        for (part, bytes) in &image.parts {
            let left = keepers.entry(part).or_default();
            *left = left.saturating_sub(1);
            freed += if *left == 0 { *bytes } else { 0 };
        }
        going.push(image.id.clone());
    }
    going
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image that was used at a time, with layers of so many bytes.
    fn image(name: &str, last_used: i64, layers: &[(&str, u64)]) -> Candidate {
        let layer = |(name, bytes): &(&str, u64)| (Part::Layer(Digest::sha256(name.as_bytes())), *bytes);
        Candidate {
            id: Digest::sha256(name.as_bytes()),
            parts: layers.iter().map(layer).collect(),
            is_dangling: false,
            stays: false,
            last_used: Timestamp(last_used),
        }
    }

    #[track_caller]
    fn check(bytes: u64, images: &[Candidate], expected: &[&str]) {
        let expected: Vec<Digest> = expected.iter().map(|name| Digest::sha256(name.as_bytes())).collect();
        assert_eq!(choose(bytes, Timestamp(100), images), expected);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_no_more_than_must() {
        let images = [image("new", 9, &[("n", 10)]), image("old", 1, &[("o", 10)]), image("middle", 5, &[("m", 10)])];
        check(0, &images, &[]);
        check(1, &images, &["old"]);
        check(10, &images, &["old"]);
        check(11, &images, &["old", "middle"]);
        check(1000, &images, &["old", "middle", "new"]);
    }

    #[test]
    fn images_without_a_name_go_before_all_others() {
        let nameless = Candidate { is_dangling: true, ..image("nameless", 50, &[("x", 1)]) };
        check(2, &[image("old", 1, &[("o", 10)]), nameless], &["nameless", "old"]);
    }

    #[test]
    fn what_is_used_pinned_or_young_stays() {
        let used = Candidate { stays: true, ..image("used", 1, &[("u", 10)]) };
        check(1000, &[used, image("young", 100, &[("y", 10)]), image("old", 99, &[("o", 10)])], &["old"]);
    }

    #[test]
    fn shared_layers_are_free_when_the_last_that_keeps_them_goes() {
        let base = ("base", 100);
        let images = [image("a", 1, &[base, ("a", 1)]), image("b", 2, &[base, ("b", 1)]), image("c", 3, &[("c", 1)])];
        check(1, &images, &["a"]);
        check(50, &images, &["a", "b"]);
        check(103, &images, &["a", "b", "c"]);
        let kept = Candidate { stays: true, ..image("d", 1, &[base]) };
        check(50, &[&images[..], &[kept]].concat(), &["a", "b", "c"]);
    }
}
