//! CSV in, figures out.
