//! MPEG-TS (ISO 13818-1). [`reader`] cuts a stream into packets once; what looks into them is a visitor: [`pcr`] (clock references),
//! [`scte35`] (splice points), [`au_terminator`] (ends of access units), [`mender`]
//! (what multiplexers get wrong), [`programme`] (one of several). [`filter`] puts them together for one stream.

pub mod au_terminator;
pub mod filter;
pub mod mender;
pub mod packet;
pub mod pcr;
mod pes;
pub mod programme;
mod psi;
pub mod reader;
pub mod scte35;
