//! The part of DER (ITU-T X.690) that lists of revoked certificates need: elements with a tag, a length, and contents.

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
/// The tag `[0]`: of the extensions of a list.
pub(crate) const EXTENSIONS: u8 = 0xa0;

/// The extension with the number of a list (RFC 5280 §5.2.3).
pub(crate) const LIST_NUMBER: [u8; 3] = [0x55, 0x1d, 0x14];
/// The extension of a delta list, with the number of the list that it goes with (RFC 5280 §5.2.4).
pub(crate) const DELTA_LIST: [u8; 3] = [0x55, 0x1d, 0x1b];
/// The extension that names the issuer's key (RFC 5280 §5.2.1).
pub(crate) const ISSUER_KEY: [u8; 3] = [0x55, 0x1d, 0x23];

/// An element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// Its first byte.
    pub(crate) tag: u8,
    /// With tag and length.
    pub(crate) whole: &'a [u8],
    /// What follows tag and length.
    pub(crate) contents: &'a [u8],
}

/// Takes the next element off. `None` if there is no whole one.
pub(crate) fn element<'a>(rest: &mut &'a [u8]) -> Option<Element<'a>> {
    let (&tag, &first) = (rest.first()?, rest.get(1)?);
    let (header, len) = if first < 0x80 {
        (2, usize::from(first))
    } else {
        let digits = usize::from(first & 0x7f);
        let bytes = rest.get(2..2 + digits).filter(|_| (1..=4).contains(&digits))?;
        (2 + digits, bytes.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)))
    };
    let whole = rest.get(..header.checked_add(len)?)?;
    *rest = &rest[whole.len()..];
    Some(Element { tag, whole, contents: &whole[header..] })
}

/// The contents of the next element, which has this tag.
pub(crate) fn contents<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(rest).filter(|found| found.tag == tag).map(|found| found.contents)
}

/// The value of an integer; `None` if it has more than 64 bits, or is negative.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.first().is_none_or(|first| *first >= 0x80) {
        return None;
    }
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let mut padded = [0; 8];
    padded[8_usize.checked_sub(bytes.len())?..].copy_from_slice(bytes);
    Some(u64::from_be_bytes(padded))
}

/// An element around these parts.
pub(crate) fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let bytes = len.to_be_bytes();
    let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = Vec::with_capacity(len + 10);
    out.push(tag);
    if len < 0x80 {
        out.push(len as u8);
    } else {
        out.push(0x80 | digits.len() as u8);
        out.extend_from_slice(digits);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// An integer.
pub(crate) fn integer(value: u64) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&value.to_be_bytes());
    // The shortest form that is not negative (X.690 §8.3.2).
    let spare = bytes.windows(2).take_while(|pair| pair[0] == 0 && pair[1] < 0x80).count();
    wrap(INTEGER, &[&bytes[spare..]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_wrapped_is_taken_off_again(bytes in prop::collection::vec(any::<u8>(), 0..70_000), cut in any::<usize>()) {
            let whole = wrap(SEQUENCE, &[&bytes]);
            let mut rest = &whole[..];
            prop_assert_eq!(element(&mut rest), Some(Element { tag: SEQUENCE, whole: &whole, contents: &bytes }));
            prop_assert!(rest.is_empty() && element(&mut rest).is_none());
            prop_assert!(element(&mut &whole[..cut % whole.len()]).is_none());
        }

        #[test]
        fn an_integer_is_read_again_in_its_shortest_form(value in any::<u64>()) {
            let whole = integer(value);
            let bytes = contents(&mut &whole[..], INTEGER).unwrap();
            prop_assert_eq!(number(bytes), Some(value));
            prop_assert!(bytes.len() == 1 || bytes[0] != 0 || bytes[1] >= 0x80);
        }

        #[test]
        fn any_bytes_are_an_element_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut rest = &bytes[..];
            while element(&mut rest).is_some() {}
            number(&bytes);
        }
    }
}
