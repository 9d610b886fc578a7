//! Offers of real programs, and what is wrong with others.
