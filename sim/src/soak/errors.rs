//! Catches log entries at the level ERROR during a run: those of quinn, rustls, turmoil, and of every other library.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The first error that was logged.
#[derive(Clone, Debug, Default)]
pub(super) struct Errors(Arc<Mutex<Option<String>>>);

impl Errors {
    pub(super) fn first(&self) -> Option<String> {
        self.0.lock().expect("nothing panics while it holds this").clone()
    }
}

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        self.0.lock().expect("nothing panics while it holds this").get_or_insert(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of an event.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_caught_and_nothing_less() {
        let errors = Errors::default();
        tracing::subscriber::with_default(errors.clone(), || {
            tracing::warn!("well");
            assert_eq!(errors.first(), None);
            tracing::error!(number = 7, "the house is on fire");
            tracing::error!("again");
        });
        let first = errors.first().unwrap();
        assert!(first.contains("the house is on fire") && first.contains("number=7"), "{first}");
    }
}
