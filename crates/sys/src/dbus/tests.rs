//! Messages there and back, messages of the hostile, a peer of our own, values from text.

use std::os::unix::net::UnixListener;

use proptest::prelude::*;

use super::message::{self, Kind, MESSAGE_MAX, Message, PREFIX};
use super::value::{DEPTH_MAX, Reader, Writer};
use super::*;

fn encoded(value: &Value) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.value(value);
    writer.bytes
}

#[track_caller]
fn check(value: Value, signature: &str, bytes: &[u8]) {
    assert_eq!(value.signature(), signature);
    assert_eq!(encoded(&value), bytes);
    assert_eq!(Reader::new(bytes).all(signature), Some(vec![value]));
}

#[test]
fn values_lie_where_the_specification_says() {
    check(Value::Byte(7), "y", &[7]);
    check(Value::Bool(true), "b", &[1, 0, 0, 0]);
    check(Value::text("hi"), "s", &[2, 0, 0, 0, b'h', b'i', 0]);
    check(Value::Signature("as".into()), "g", &[2, b'a', b's', 0]);
    check(Value::Variant(Box::new(Value::Uint32(5))), "v", &[1, b'u', 0, 0, 5, 0, 0, 0]);
    // The padding before the elements is there without any, and does not count.
    check(Value::Array("t".into(), vec![]), "at", &[0, 0, 0, 0, 0, 0, 0, 0]);
    check(Value::Array("t".into(), vec![Value::Uint64(1)]), "at", &[8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let pair = Value::Struct(vec![Value::Byte(1), Value::Int16(-2)]);
    check(Value::Array("(yn)".into(), vec![pair]), "a(yn)", &[4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xfe, 0xff]);
}

#[test]
fn bytes_that_are_no_values() {
    for (signature, bytes) in [
        ("y", &[][..]),
        ("y", &[1, 2]),
        ("b", &[2, 0, 0, 0]),
        ("s", &[9, 0, 0, 0, b'h', 0]),
        ("s", &[255, 255, 255, 255, b'h', 0]),
        ("s", &[1, 0, 0, 0, b'h', 1]),
        ("s", &[1, 0, 0, 0, 0, 0]),
        ("s", &[1, 0, 0, 0, 0xff, 0]),
        ("au", &[255, 255, 255, 255]),
        ("au", &[3, 0, 0, 0, 1, 2, 3]),
        ("yu", &[1, 9, 0, 0, 1, 0, 0, 0]),
        ("v", &[1, b'z', 0, 0]),
        ("v", &[0, 0]),
        ("v", &[2, b'y', b'y', 0, 1, 2]),
        ("()", &[]),
        ("(y", &[1]),
        ("a", &[0, 0, 0, 0]),
        ("z", &[1]),
    ] {
        assert_eq!(Reader::new(bytes).all(signature), None, "{signature} {bytes:?}");
    }
}

#[test]
fn nesting_has_an_end() {
    let deep = |depth: u32| (0..depth).fold(Value::Byte(1), |inner, _| Value::Variant(Box::new(inner)));
    let read = |value: &Value| Reader::new(&encoded(value)).all("v");
    assert!(read(&deep(DEPTH_MAX - 1)).is_some());
    assert_eq!(read(&deep(DEPTH_MAX)), None);
    let arrays = "a".repeat(200) + "y";
    assert_eq!(Reader::new(&[0; 900]).all(&arrays), None);
    let opened = "(".repeat(255);
    assert_eq!(Reader::new(&[0; 900]).all(&opened), None);
}

#[test]
fn messages_that_are_refused() {
    let call = on_bus("Hello", &[]).encode(1, false).unwrap();
    let prefix = |change: fn(&mut [u8; PREFIX])| {
        let mut prefix = *call.first_chunk::<PREFIX>().unwrap();
        change(&mut prefix);
        message::length(prefix)
    };
    assert_eq!(prefix(|_| {}).unwrap(), call.len());
    assert!(matches!(prefix(|bytes| bytes[0] = b'B'), Err(Error::Malformed)));
    assert!(matches!(prefix(|bytes| bytes[3] = 2), Err(Error::Malformed)));
    for at in [4, 12] {
        let mut long = *call.first_chunk::<PREFIX>().unwrap();
        long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(message::length(long), Err(Error::TooLong)));
    }
    let huge = [Value::text("x".repeat(MESSAGE_MAX))];
    assert!(matches!(on_bus("X", &huge).encode(1, true), Err(Error::TooLong)));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u8>().prop_map(Value::Byte),
        any::<bool>().prop_map(Value::Bool),
        any::<i16>().prop_map(Value::Int16),
        any::<u32>().prop_map(Value::Uint32),
        any::<i64>().prop_map(Value::Int64),
        any::<u64>().prop_map(Value::Uint64),
        "[a-zä ]{0,9}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|value| Value::Variant(Box::new(value))),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Struct),
            (inner, 0_usize..4).prop_map(|(value, count)| Value::Array(value.signature(), vec![value; count])),
        ]
    })
}

proptest! {
    #[test]
    fn calls_round_trip(arguments in prop::collection::vec(any_value(), 0..4), serial in 1_u32.., direct: bool) {
        let call = Call { destination: "a.b", path: "/c", interface: "d.e", member: "F", arguments: &arguments };
        let bytes = call.encode(serial, direct).unwrap();
        let message = Message::decode(&bytes).unwrap();
        prop_assert_eq!(message.kind, Kind::Call);
        prop_assert_eq!(message.path.as_deref(), Some("/c"));
        prop_assert_eq!(message.member.as_deref(), Some("F"));
        prop_assert_eq!(message.values().unwrap(), arguments);
    }

    /// Whatever comes, it is read without a panic and without an end to memory.
    #[test]
    fn anything_may_come(signature in "[ybnqiuxtdsogvah(){}]{0,12}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Reader::new(&bytes).all(&signature);
        let _ = Message::decode(&bytes);
    }

    /// One byte of a good message is changed.
    #[test]
    fn messages_may_be_damaged(arguments in prop::collection::vec(any_value(), 0..3), at: prop::sample::Index, byte: u8) {
        let call = Call { destination: "a.b", path: "/c", interface: "d.e", member: "F", arguments: &arguments };
        let mut bytes = call.encode(7, false).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Message::decode(&bytes).map(|message| message.values().is_ok());
    }

    #[test]
    fn any_text_is_a_value_or_none(text in "[-a-z0-9'\"\\\\()\\[\\], .]{0,40}") {
        let _ = text.parse::<Value>();
    }
}

#[test]
fn values_from_text() {
    let text = |text: &str| Value::Text(text.into());
    for (written, value) in [
        ("true", Value::Bool(true)),
        ("boolean false", Value::Bool(false)),
        (" 5 ", Value::Int32(5)),
        ("-5", Value::Int32(-5)),
        ("0x10", Value::Int32(16)),
        ("uint64 18446744073709551615", Value::Uint64(u64::MAX)),
        ("int64 -9223372036854775808", Value::Int64(i64::MIN)),
        ("byte 255", Value::Byte(255)),
        ("1.5", Value::Double(1.5)),
        ("double 2", Value::Double(2.0)),
        ("'it\\'s'", text("it's")),
        ("\"a'b\\n\"", text("a'b\n")),
        ("string 'x'", text("x")),
        ("objectpath '/a/b_1'", Value::Path("/a/b_1".into())),
        ("['a', 'b']", Value::Array("s".into(), vec![text("a"), text("b")])),
        ("[uint32 1]", Value::Array("u".into(), vec![Value::Uint32(1)])),
        (
            "[('/dev/null', 'rw')]",
            Value::Array("(ss)".into(), vec![Value::Struct(vec![text("/dev/null"), text("rw")])]),
        ),
        ("(1,)", Value::Struct(vec![Value::Int32(1)])),
    ] {
        assert_eq!(written.parse(), Ok(value), "{written}");
    }
    let deep = "[".repeat(100);
    for bad in [
        "",
        "'",
        "'a",
        "yes",
        "5 6",
        "uint32 -1",
        "byte 256",
        "2147483648",
        "[]",
        "[1, 'a']",
        "[1,]",
        "()",
        "(1",
        "[1 2]",
        "{'a': 1}",
        "@as []",
        "nothing",
        "just 1",
        "--5",
        "+5",
        "0x",
        "inf",
        "nan",
        "'\\x'",
        "objectpath 'a'",
        "objectpath '/a//b'",
        "b'a'",
        &deep,
    ] {
        assert_eq!(bad.parse::<Value>(), Err(NoValue), "{bad:?}");
    }
}

/// A peer that answers what the client sends with `answers`, each after it has read something, says no more and listens until
/// the client goes.
fn peer(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, std::thread::JoinHandle<()>) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("bus")).unwrap();
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        for answer in answers {
            assert!(stream.read(&mut buffer).unwrap() > 0);
            // The client may have given up.
            let _ = stream.write_all(&answer);
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    };
    (dir, std::thread::spawn(serve))
}

const WELCOME: &[u8] = b"DATA\r\nOK 0123\r\n";

/// A signal or a reply, as another program would write it.
fn incoming(kind: u8, fields: Vec<(u8, Value)>, body: &[Value]) -> Vec<u8> {
    let mut writer = Writer { bytes: vec![b'l', kind, 0, 1] };
    let mut encoded = Writer::default();
    body.iter().for_each(|value| encoded.value(value));
    let signature: String = body.iter().map(Value::signature).collect();
    let fields = fields.into_iter().chain([(8, Value::Signature(signature))]);
    let fields =
        fields.map(|(number, value)| Value::Struct(vec![Value::Byte(number), Value::Variant(Box::new(value))]));
    writer.value(&Value::Uint32(u32::try_from(encoded.bytes.len()).unwrap()));
    writer.value(&Value::Uint32(9));
    writer.value(&Value::Array("(yv)".into(), fields.collect()));
    writer.align(8);
    writer.bytes.extend(encoded.bytes);
    writer.bytes
}

fn ping(connection: &mut Connection) -> Result<Vec<Value>, Error> {
    connection.call(&Call { destination: "a.b", path: "/", interface: "a.b", member: "Ping", arguments: &[] })
}

#[test]
fn a_conversation() {
    let signal =
        |word: &str| incoming(4, vec![(2, Value::text("a.b")), (3, Value::text("Said"))], &[Value::text(word)]);
    let reply = incoming(2, vec![(5, Value::Uint32(1))], &[Value::Uint32(42)]);
    let error = incoming(3, vec![(5, Value::Uint32(2)), (4, Value::text("a.b.No"))], &[Value::text("never")]);
    let answers = vec![WELCOME.to_vec(), [signal("early"), reply, signal("late")].concat(), error];
    let (dir, thread) = peer(answers);
    let mut connection = Connection::to_peer(&dir.path().join("bus")).unwrap();
    assert!(connection.is_direct());
    assert_eq!(ping(&mut connection).unwrap(), [Value::Uint32(42)]);
    for word in ["early", "late"] {
        assert_eq!(connection.signal("a.b.Said").unwrap().arguments, [Value::text(word)]);
    }
    let Err(Error::Answer { name, text }) = ping(&mut connection) else { panic!("no answer") };
    assert_eq!((name.as_str(), text.as_str()), ("a.b.No", "never"));
    assert!(matches!(ping(&mut connection), Err(Error::Io(_))));
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn a_peer_that_is_none() {
    let met = |answer: &[u8]| {
        let (dir, thread) = peer(vec![answer.to_vec()]);
        let met = Connection::to_peer(&dir.path().join("bus")).map(|_| ());
        thread.join().unwrap();
        met
    };
    assert!(met(WELCOME).is_ok());
    assert!(matches!(met(b"REJECTED EXTERNAL\r\n"), Err(Error::Refused(line)) if line == "REJECTED EXTERNAL"));
    assert!(matches!(met(&[b'x'; 2000]), Err(Error::TooLong)));
    assert!(matches!(met(b"DATA\r\n"), Err(Error::Io(_))));
    let nobody = Connection::to_bus(Path::new("/nonexistent/bus"));
    assert!(matches!(nobody, Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound));
}
