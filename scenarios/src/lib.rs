//! What an experiment is, as data, and what a result row is.
