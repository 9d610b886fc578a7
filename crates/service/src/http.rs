//! Health, availability and metrics over HTTP.
