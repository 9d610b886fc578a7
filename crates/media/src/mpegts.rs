//! MPEG-TS (ISO 13818-1): its packets, clock references, ends of access units, and the splice points in it.

pub mod au_terminator;
pub mod packet;
pub mod pcr;
pub mod scte35;
