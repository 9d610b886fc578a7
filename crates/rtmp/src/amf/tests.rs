//! AMF0 there and back, and what is no AMF0.

use super::*;
use proptest::prelude::*;

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<f64>().prop_filter("NaN is not equal to itself", |n| !n.is_nan()).prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        ".{0,20}".prop_map(Value::String),
        Just(Value::Null),
        Just(Value::Undefined),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(("[a-z]{1,6}", inner.clone()), 0..6).prop_map(Value::Object),
            proptest::collection::vec(inner, 0..6).prop_map(Value::Array),
        ]
    })
}

proptest! {
    #[test]
    fn values_round_trip(values in proptest::collection::vec(any_value(), 0..5)) {
        prop_assert_eq!(decode(&encode_all(&values)), Ok(values));
    }

    #[test]
    fn noise_is_read_or_refused(noise in proptest::collection::vec(prop_oneof![0u8..18, any::<u8>()], 0..300)) {
        let _ = decode(&noise);
    }
}

#[test]
fn values_of_real_encoders() {
    // onMetaData as FFmpeg writes it: an ECMA array with a count that does not hold.
    let mut bytes = vec![2, 0, 10];
    bytes.extend(b"onMetaData");
    bytes.extend([8, 0, 0, 0, 99, 0, 5]);
    bytes.extend(b"width\x00");
    bytes.extend(64f64.to_be_bytes());
    bytes.extend([0, 0, 9]);
    let values = decode(&bytes).unwrap();
    assert_eq!(values[1].get("width").and_then(Value::as_number), Some(64.0));
    // The same with its end left out, a typed object, a date, XML, a long string.
    assert_eq!(decode(&bytes[..bytes.len() - 3]).unwrap()[1], values[1]);
    assert_eq!(decode(&[16, 0, 1, b'C', 0, 1, b'a', 5, 0, 0, 9]), Ok(vec![object([("a", Value::Null)])]));
    assert_eq!(decode(&[11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60]), Ok(vec![Value::Number(0.0)]));
    assert_eq!(decode(&[15, 0, 0, 0, 2, b'<', b'>', 12, 0, 0, 0, 1, b'x']), Ok(vec!["<>".into(), "x".into()]));
    // An AMF3 value ends what is read.
    assert_eq!(decode(&[5, 17, 10, 11, 1]), Ok(vec![Value::Null]));
    assert_eq!(decode(&[2, 0, 2, 0xff, b'a']), Ok(vec!["\u{fffd}a".into()]));
}

#[test]
fn bounds_are_enforced() {
    let nested = |depth: usize| [[10, 0, 0, 0, 1].repeat(depth), vec![5]].concat();
    assert!(decode(&nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(decode(&nested(MAX_DEPTH)), Err(Error::TooDeep));
    assert_eq!(decode(&nested(100_000)), Err(Error::TooDeep));
    assert_eq!(decode(&[5; MAX_VALUES + 1]), Err(Error::TooMany));
    assert_eq!(decode(&[10, 0xff, 0xff, 0xff, 0xff, 5]), Err(Error::ArrayLength));
    assert_eq!(decode(&[12, 0xff, 0xff, 0xff, 0xff, 5]), Err(Error::CutOff));
    assert_eq!(decode(&[2, 0, 5, b'a']), Err(Error::CutOff));
    assert_eq!(decode(&[4]), Err(Error::Marker(4)));
    assert_eq!(decode(&[18]), Err(Error::Marker(18)));
}

#[test]
fn long_text_is_a_long_string() {
    let text = Value::String("x".repeat(70_000));
    assert_eq!(decode(&encode_all(std::slice::from_ref(&text))), Ok(vec![text]));
}
