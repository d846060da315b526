//! The macros behind the table of messages. Read the table in the parent module first; it can be understood without
//! them.
//!
//! A new message needs no change here.

/// The rows of the table: `Kind`, `Message`, the struct of each body with its codec, and what diagrams and the layout
/// say.
macro_rules! messages {
    (
        $($(#[doc = $doc:literal])* $number:literal $name:literal $kind:ident $(($body:ident $({
            $($(#[$field_doc:meta])* $field:ident: $type:ty,)+
        })?))? shows $shows:expr;)+
        packets:
        $(#[doc = $packet_doc:literal])* $packet_number:literal $packet_name:literal $packet:ident;
    ) => {
        /// The message types (paper Figs. 2–9).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[doc = $doc])* $kind = $number,)+
            $(#[doc = $packet_doc])* $packet = $packet_number,
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+ Self::$packet];

            /// The paper's name for it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                    Self::$packet => $packet_name,
                }
            }

            /// The kind that a header's type byte stands for.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$kind),)+
                    $packet_number => Some(Self::$packet),
                    _ => None,
                }
            }
        }

        /// A signaling message, without its header.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message {
            $($(#[doc = $doc])* $kind $(($body))?,)+
        }

        impl Message {
            /// The header's type for this message.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind { .. } => Kind::$kind,)+
                }
            }

            /// Appends the body.
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$kind $((bound!($body body)))? => { $(bound!($body body).put(out);)? })+
                }
            }

            /// Reads a body of this kind off the front.
            fn take(kind: Kind, r: &mut field::Reader<'_>) -> Result<Self, DecodeError> {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind $((<$body as Field>::take(r)?))?,)+
                    Kind::$packet => return Err(DecodeError::NoMessage(kind)),
                })
            }

            /// The fields that a diagram shows of the message.
            fn shown(&self, from: &$crate::name::Party) -> Vec<String> {
                match self {
                    $(Self::$kind $((bound!($body body)))? => shown!($shows, from $(, bound!($body body))?),)+
                }
            }
        }

        $($($(
            #[doc = concat!("The body of a ", $name, ": [`Message::", stringify!($kind), "`] says what it is for.")]
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $body {
                $($(#[$field_doc])* pub $field: $type,)+
            }

            impl Field for $body {
                fn put(&self, out: &mut Vec<u8>) {
                    $(self.$field.put(out);)+
                }

                fn take(r: &mut field::Reader<'_>) -> Result<Self, DecodeError> {
                    Ok(Self { $($field: Field::take(r)?),+ })
                }

                fn notation() -> String {
                    layout::fields(&[$((stringify!($field), <$type as Field>::notation())),+])
                }
            }

            #[cfg(test)]
            arbitrary::fields!($body { $($field),+ });
        )?)?)+

        /// One row for each message of the layout: type, name, what it is for, body.
        fn message_rows() -> Vec<(u8, &'static str, &'static str, String)> {
            vec![
                $(($number, $name, concat!($($doc),*), layout::body(&[$(<$body as Field>::notation())?]))),+,
                ($packet_number, $packet_name, concat!($($packet_doc),*), "a packet of the overlay".to_owned()),
            ]
        }

        /// Any message.
        #[cfg(test)]
        fn any_message() -> proptest::strategy::BoxedStrategy<Message> {
            use proptest::prelude::*;
            proptest::strategy::Union::new([
                $(arbitrary::one!(Message::$kind $(, $body)?)),+
            ]).boxed()
        }
    };
}

/// A name for the body, which only rows with a body have: both in the pattern and where the name is used.
macro_rules! bound {
    ($body:ident $name:ident) => {
        $name
    };
}

/// The call of the function that `shows` names: for a message with a body, and for one without.
macro_rules! shown {
    ($shows:expr, $from:ident) => {
        $shows(&(), $from)
    };
    ($shows:expr, $from:ident, $body:expr) => {
        $shows($body, $from)
    };
}

/// Groups of fields: the codec and the layout of structs that are defined elsewhere.
macro_rules! parts {
    ($($name:literal $type:ident { $($field:ident),+ })+) => {
        $(
            impl Field for $type {
                fn put(&self, out: &mut Vec<u8>) {
                    $(self.$field.put(out);)+
                }

                fn take(r: &mut field::Reader<'_>) -> Result<Self, DecodeError> {
                    Ok(Self { $($field: Field::take(r)?),+ })
                }

                fn notation() -> String {
                    $name.to_owned()
                }
            }

            #[cfg(test)]
            arbitrary::fields!($type { $($field),+ });
        )+

        /// One row for each group of fields of the layout: its name, and its fields.
        fn part_rows() -> Vec<(&'static str, String)> {
            vec![$((
                $name,
                layout::fields(&[$((stringify!($field), layout::notation_of(|part: &$type| &part.$field))),+]),
            )),+]
        }
    };
}

/// Choices: the codec and the layout of enums that are defined elsewhere.
macro_rules! choices {
    ($($name:literal $type:ident { $($number:literal $variant:ident $(($data:ty))?),+ })+) => {
        $(
            impl Field for $type {
                fn put(&self, out: &mut Vec<u8>) {
                    match self {
                        $(Self::$variant $((bound_type!($data, data)))? => {
                            out.push($number);
                            $(bound_type!($data, data).put(out);)?
                        })+
                    }
                }

                fn take(r: &mut field::Reader<'_>) -> Result<Self, DecodeError> {
                    Ok(match u8::take(r)? {
                        $($number => Self::$variant $((<$data as Field>::take(r)?))?,)+
                        value => return Err(DecodeError::Value { what: $name, value }),
                    })
                }

                fn notation() -> String {
                    $name.to_owned()
                }
            }

            #[cfg(test)]
            arbitrary::choice!($type { $($variant $(($data))?),+ });
        )+

        /// One row for each choice of the layout: its name, and its values.
        fn choice_rows() -> Vec<(&'static str, String)> {
            vec![$((
                $name,
                layout::choices(&[$(($number, stringify!($variant), &[$(<$data as Field>::notation())?])),+]),
            )),+]
        }
    };
}

/// As `bound!`, for a type.
macro_rules! bound_type {
    ($data:ty, $name:ident) => {
        $name
    };
}

/// The codes of an Error.
macro_rules! errors {
    ($($(#[$doc:meta])* $number:literal $text:literal $code:ident $(($data:ty))?;)+) => {
        /// Why something cannot be done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ErrorCode {
            $($(#[$doc])* $code $(($data))?,)+
            /// A code of a later version, whose meaning is not known here.
            Unknown(u8),
        }

        impl ErrorCode {
            /// What it means, for people.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$code { .. } => $text,)+
                    Self::Unknown(_) => "an error that this version does not know",
                }
            }

            /// The number that travels.
            pub const fn number(self) -> u8 {
                match self {
                    $(Self::$code { .. } => $number,)+
                    Self::Unknown(number) => number,
                }
            }
        }

        impl Field for ErrorCode {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(self.number());
                match self {
                    $(Self::$code $((bound_type!($data, data)))? => { $(bound_type!($data, data).put(out);)? })+
                    Self::Unknown(_) => {}
                }
            }

            fn take(r: &mut field::Reader<'_>) -> Result<Self, DecodeError> {
                Ok(match u8::take(r)? {
                    $($number => Self::$code $((<$data as Field>::take(r)?))?,)+
                    number => {
                        // A code that is not known here may have data behind it. They are skipped.
                        r.skip();
                        Self::Unknown(number)
                    }
                })
            }

            fn notation() -> String {
                "error code".to_owned()
            }
        }

        /// The codes of an Error, for the layout: number, text, and what follows.
        fn error_rows() -> Vec<(u8, &'static str, String)> {
            vec![$(($number, $text, layout::data(&[$(<$data as Field>::notation())?]))),+]
        }

        #[cfg(test)]
        arbitrary::choice!(ErrorCode { $($code $(($data))?),+ });
    };
}
