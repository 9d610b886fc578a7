//! A sender and a receiver back to back, on virtual time.
