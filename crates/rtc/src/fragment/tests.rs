//! Both forms, and what is none.
