//! The keys of tables, for tests that need all of them.
//!
//! A generator of scenarios writes keys as text, so the compiler does not notice a new key. The generator's test
//! compares its keys with these.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

use crate::schema;

/// Every key of a NAT: of `[site.nat]`, `[site.nat64]`, `[site.nat66]` and `[[carrier]]`.
pub fn nat_keys() -> &'static [&'static str] {
    keys::<schema::Nat>()
}

/// Every key of `[site.firewall]`.
pub fn firewall_keys() -> &'static [&'static str] {
    keys::<schema::Firewall>()
}

/// Every key of a link, but for `up` and `down`, which have the same ones.
pub fn link_keys() -> &'static [&'static str] {
    keys::<schema::Way>()
}

/// Every value of a step's `do`.
pub fn actions() -> &'static [&'static str] {
    schema::ACTIONS
}

/// The field names that serde's derive passes to a format.
fn keys<T: Deserialize<'static>>() -> &'static [&'static str] {
    let mut keys: &[&str] = &[];
    let refused = T::deserialize(Ask(&mut keys));
    debug_assert!(refused.is_err(), "nothing was given");
    keys
}

/// A format without values. It only records the fields of a struct.
struct Ask<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Ask<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("no values"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
