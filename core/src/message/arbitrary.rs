//! Arbitrary values of every type on the wire, for property tests. The macros of this module make them for the types of
//! the table of messages (`super::table`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{AtEnd, Der, MAX_ADDRESSES, Padding, WrappedKey};
use crate::key::Key128;
use crate::name::{Fqdn, NodeId, PathId, RelayCid, Virtual};

/// A type that has a proptest strategy. Texts and certificates are short, so that bodies fit into `MAX_BODY`.
pub(super) trait Arb: Sized + std::fmt::Debug + 'static {
    fn arb() -> BoxedStrategy<Self>;
}

/// The strategy of a type. Where a field is made, the compiler infers the type.
pub(super) fn arb<T: Arb>() -> BoxedStrategy<T> {
    T::arb()
}

/// Implements `Arb` for a struct: each field gets any value of its type.
macro_rules! fields {
    ($type:ident { $($field:ident),+ }) => {
        impl $crate::message::arbitrary::Arb for $type {
            fn arb() -> proptest::strategy::BoxedStrategy<Self> {
                use proptest::strategy::Strategy;
                ($($crate::message::arbitrary::any_of!($field),)+).prop_map(|($($field,)+)| Self { $($field),+ }).boxed()
            }
        }
    };
}
pub(super) use fields;

/// The strategy of one field. It takes the name of the field only because a repetition in `fields` needs a variable.
macro_rules! any_of {
    ($field:ident) => {
        $crate::message::arbitrary::arb()
    };
}
pub(super) use any_of;

/// Implements `Arb` for an enum: any variant, with any data.
macro_rules! choice {
    ($type:ident { $($variant:ident $(($data:ty))?),+ }) => {
        impl $crate::message::arbitrary::Arb for $type {
            fn arb() -> proptest::strategy::BoxedStrategy<Self> {
                use proptest::strategy::Strategy;
                proptest::strategy::Union::new([$(
                    $crate::message::arbitrary::one!($type::$variant $(, $data)?)
                ),+]).boxed()
            }
        }
    };
}
pub(super) use choice;

/// One variant of an enum, with any data.
macro_rules! one {
    ($type:ident::$variant:ident) => {
        proptest::strategy::Strategy::boxed(proptest::strategy::LazyJust::new(|| $type::$variant))
    };
    ($type:ident::$variant:ident, $data:ty) => {{
        use proptest::strategy::Strategy;
        $crate::message::arbitrary::arb::<$data>().prop_map($type::$variant).boxed()
    }};
}
pub(super) use one;

/// Implements `Arb` for types whose values proptest can make itself.
macro_rules! plain {
    ($($type:ty),+) => {$(
        impl Arb for $type {
            fn arb() -> BoxedStrategy<Self> {
                any::<$type>().boxed()
            }
        }
    )+};
}
plain!(u8, u16, u64, bool, IpAddr, [u8; 8], [u8; 16]);

impl Arb for Padding {
    fn arb() -> BoxedStrategy<Self> {
        Just(Self).boxed()
    }
}

/// Implements `Arb` for tuple structs that hold one array of bytes and nothing else.
macro_rules! arrays {
    ($($type:ident),+) => {$(
        impl Arb for $type {
            fn arb() -> BoxedStrategy<Self> {
                any::<[u8; size_of::<$type>()]>().prop_map($type).boxed()
            }
        }
    )+};
}
arrays!(Key128, NodeId, PathId, RelayCid, WrappedKey);

impl<T: Arb + Clone> Arb for Option<T> {
    fn arb() -> BoxedStrategy<Self> {
        proptest::option::of(T::arb()).boxed()
    }
}

impl<T: Arb + Clone> Arb for AtEnd<T> {
    fn arb() -> BoxedStrategy<Self> {
        Option::<T>::arb().prop_map(Self).boxed()
    }
}

impl<T: Arb> Arb for Vec<T> {
    fn arb() -> BoxedStrategy<Self> {
        vec(T::arb(), 0..=MAX_ADDRESSES).boxed()
    }
}

impl Arb for SocketAddr {
    fn arb() -> BoxedStrategy<Self> {
        any::<(IpAddr, u16)>().prop_map(Self::from).boxed()
    }
}

impl Arb for String {
    fn arb() -> BoxedStrategy<Self> {
        "\\PC{0,40}".boxed()
    }
}

impl Arb for Der {
    fn arb() -> BoxedStrategy<Self> {
        vec(any::<u8>(), 0..60).prop_map(Self).boxed()
    }
}

impl Arb for Fqdn {
    fn arb() -> BoxedStrategy<Self> {
        "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]{1,20}){0,4}".prop_map(|text| text.parse().unwrap()).boxed()
    }
}

impl Arb for Virtual {
    fn arb() -> BoxedStrategy<Self> {
        any::<(Ipv4Addr, Ipv6Addr)>().prop_map(|(v4, v6)| Self { v4, v6 }).boxed()
    }
}
