//! Budgets of Rust sources, counted on the parsed file.
//!
//! Lines are those with code on them: blank lines and comments are free. Tests are free too: files named `tests.rs` or
//! below a `tests` folder, and items under `#[cfg(test)]`. A struct that derives `Deserialize` mirrors a foreign schema
//! and may have any number of fields. Left out: code inside macros, which syn does not parse.

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Finding;

/// Code lines of a file without its tests.
const FILE_LINES: usize = 500;
/// Code lines of a function.
const FUNCTION_LINES: usize = 70;
/// Methods of a trait.
const TRAIT_METHODS: usize = 12;
/// Fields of a struct.
const STRUCT_FIELDS: usize = 12;
/// Variants of an error enum.
const ERROR_VARIANTS: usize = 16;
/// Crates that may contain `unsafe`; all others forbid it at their root.
const UNSAFE: [&str; 6] = ["sys", "container", "wasm", "vmm", "cpu-kvm", "cpu-riscv"];

/// Checks the file `text` at `path`.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut checker = Checker { path, code: code_lines(text), findings: Vec::new() };
    match syn::parse_file(text) {
        Ok(file) => checker.file(&file),
        Err(error) => checker.find(error.span(), "parse", "", 1, format!("does not parse: {error}")),
    }
    checker.findings
}

/// Whether each line (from 1) has code; line 0 has none.
fn code_lines(text: &str) -> Vec<bool> {
    let mut lines = vec![false];
    let mut comment = false;
    for line in text.lines() {
        let line = line.trim();
        if comment || line.starts_with("/*") {
            comment = !line.contains("*/");
            lines.push(false);
        } else {
            lines.push(!line.is_empty() && !line.starts_with("//"));
        }
    }
    lines
}

struct Checker<'a> {
    path: &'a str,
    code: Vec<bool>,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn file(&mut self, file: &syn::File) {
        let top = Span::call_site();
        let opens = file.attrs.iter().any(|a| a.path().is_ident("doc") && matches!(a.style, syn::AttrStyle::Inner(_)));
        if !opens {
            self.find(top, "module-doc", "", 1, "does not open with //!: say what it is".to_owned());
        }
        if wants_forbid(self.path) && !file.attrs.iter().any(forbids_unsafe) {
            self.find(top, "forbid-unsafe", "", 1, "lacks #![forbid(unsafe_code)]".to_owned());
        }
        if is_test_file(self.path) {
            return;
        }
        let tests: usize = file.items.iter().filter(|i| for_tests(attributes(i))).map(|i| self.lines(i.span())).sum();
        let lines = self.code.iter().filter(|code| **code).count() - tests;
        self.budget(top, "file-lines", "", (lines, FILE_LINES), "code lines without tests");
        self.visit_file(file);
    }

    fn lines(&self, span: Span) -> usize {
        let range = span.start().line..=span.end().line.min(self.code.len() - 1);
        self.code.get(range).map_or(0, |lines| lines.iter().filter(|code| **code).count())
    }

    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let lines = self.lines(body.span()).saturating_sub(2);
        let name = signature.ident.to_string();
        self.budget(signature.span(), "function-lines", &name, (lines, FUNCTION_LINES), "code lines");
    }

    fn budget(&mut self, span: Span, rule: &'static str, item: &str, (amount, limit): (usize, usize), what: &str) {
        if amount > limit {
            let text = format!("{item} has {amount} {what}, {limit} are the budget").trim_start().to_owned();
            self.find(span, rule, item, amount, text);
        }
    }

    fn find(&mut self, span: Span, rule: &'static str, item: &str, amount: usize, text: String) {
        let (path, item) = (self.path.to_owned(), item.to_owned());
        self.findings.push(Finding { path, line: span.start().line, rule, item, amount, text });
    }
}

impl<'ast> Visit<'ast> for Checker<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !for_tests(&item.attrs) {
            self.function(&item.sig, &item.block);
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let methods = item.items.iter().filter(|item| matches!(item, syn::TraitItem::Fn(_))).count();
        self.budget(item.span(), "trait-methods", &item.ident.to_string(), (methods, TRAIT_METHODS), "methods");
        visit::visit_item_trait(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        if !derives(&item.attrs, "Deserialize") {
            let name = item.ident.to_string();
            self.budget(item.span(), "struct-fields", &name, (item.fields.len(), STRUCT_FIELDS), "fields");
        }
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        if derives(&item.attrs, "Error") {
            let name = item.ident.to_string();
            self.budget(item.span(), "error-variants", &name, (item.variants.len(), ERROR_VARIANTS), "variants");
            for variant in item.variants.iter().filter(|variant| holds_text_only(variant)) {
                let text = format!("{name}::Other(String) tells a caller nothing to decide by: name the cases");
                self.find(variant.span(), "error-other", &name, 1, text);
            }
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "unwrap" && call.args.is_empty() {
            let text = "unwrap() outside tests: handle it, or expect() with why it cannot fail".to_owned();
            self.find(call.method.span(), "unwrap", "", 1, text);
        }
        visit::visit_expr_method_call(self, call);
    }
}

fn holds_text_only(variant: &syn::Variant) -> bool {
    let text = |field: &syn::Field| matches!(&field.ty, syn::Type::Path(path) if path.path.is_ident("String"));
    variant.ident == "Other" && variant.fields.len() == 1 && variant.fields.iter().all(text)
}

/// Whether `path` is the root of a program or library whose crate may have no `unsafe`.
fn wants_forbid(path: &str) -> bool {
    let Some((folder, file)) = path.split_once("/src/") else { return false };
    let name = folder.strip_prefix("crates/").unwrap_or(folder);
    let root = file == "lib.rs" || file == "main.rs" || (file.starts_with("bin/") && !file[4..].contains('/'));
    root && !UNSAFE.contains(&name) && !name.starts_with("fuzz")
}

fn forbids_unsafe(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("forbid")
        && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("unsafe_code"))
}

fn is_test_file(path: &str) -> bool {
    let tests = |part: &str| part == "tests" || part == "benches" || part == "testkit";
    path.split('/').any(tests)
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
        || path.starts_with("fuzz/")
}

fn for_tests(attributes: &[syn::Attribute]) -> bool {
    let cfg =
        |a: &syn::Attribute| a.path().is_ident("cfg") && a.parse_args::<syn::Path>().is_ok_and(|p| p.is_ident("test"));
    attributes.iter().any(|attribute| cfg(attribute) || attribute.path().is_ident("test"))
}

fn derives(attributes: &[syn::Attribute], name: &str) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        let list = attribute.parse_args_with(Punctuated::<syn::Path, syn::Token![,]>::parse_terminated);
        let last = |path: &syn::Path| path.segments.last().is_some_and(|segment| segment.ident == name);
        found |= list.is_ok_and(|list| list.iter().any(last));
    }
    found
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
