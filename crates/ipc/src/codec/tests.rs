//! See [`super`].

use super::*;
use crate::{Assignment, Hello, Ready, demux, transcode};
use model::{Blame, Fault, Frame, Kind, MediaTime, VideoCodec, VideoConfig};
use proptest::prelude::*;

fn frame(data: Vec<u8>) -> transcode::Command {
    transcode::Command::Frame(Frame {
        kind: Kind::Video,
        pts: MediaTime::from_millis(40),
        dts: MediaTime::from_millis(-40),
        key: true,
        data: Bytes::from(data),
    })
}

fn bytes_of(mut batch: Batch) -> Bytes {
    batch.copy_to_bytes(batch.remaining())
}

/// Decodes pieces of this length.
fn decoded<M: Message>(bytes: &[u8], cut: usize) -> Result<Vec<M>, Error> {
    let (mut decoder, mut got) = (Decoder::default(), Vec::new());
    for mut piece in bytes.chunks(cut) {
        while !piece.is_empty() {
            piece = &piece[decoder.fill(piece)..];
            while let Some(message) = decoder.next_message()? {
                got.push(message);
            }
        }
    }
    Ok(got)
}

proptest! {
    #[test]
    fn messages_survive_any_cut(sizes in proptest::collection::vec(0usize..20_000, 1..8), cut in 1usize..9_000) {
        let mut batch = Batch::default();
        let mut sent = Vec::new();
        for (n, size) in sizes.into_iter().enumerate() {
            sent.push(frame(vec![n as u8; size]));
            sent.push(transcode::Command::KeyFrame { layer: 1 });
            sent.push(transcode::Command::VideoConfig(VideoConfig::new(VideoCodec::H264, Bytes::from(vec![7; size / 9]), None)));
        }
        for message in &sent {
            batch.push(message).unwrap();
            batch.push_heartbeat();
        }
        prop_assert_eq!(decoded::<transcode::Command>(&bytes_of(batch), cut).unwrap(), sent);
    }

    #[test]
    fn partial_writes_lose_nothing(size in 0usize..5_000, step in 1usize..700) {
        let mut batch = Batch::default();
        for n in 0..3 {
            batch.push(&frame(vec![n; size])).unwrap();
        }
        prop_assert_eq!(batch.messages(), 3);
        let mut written = Vec::new();
        while batch.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = batch.chunks_vectored(&mut slices);
            let slices: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).take(step).collect();
            batch.advance(slices.len());
            written.extend(slices);
        }
        prop_assert_eq!(batch.messages(), 0);
        prop_assert_eq!(decoded::<transcode::Command>(&written, 1 << 16).unwrap().len(), 3);
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300), cut in 1usize..50) {
        let _ = decoded::<transcode::Event>(&noise, cut);
        let _ = decoded::<demux::Event>(&noise, cut);
        let _ = decoded::<demux::Command>(&noise, cut);
        let _ = decoded::<Assignment>(&noise, cut);
    }
}

#[test]
fn payload_is_not_copied_when_written() {
    let data = Bytes::from(vec![3; 100_000]);
    let mut batch = Batch::default();
    batch.push(&demux::Command::Bytes(data.clone())).unwrap();
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(batch.chunks_vectored(&mut slices), 2);
    assert_eq!(slices[1].as_ptr(), data.as_ptr());
}

#[test]
fn large_payload_is_read_in_place() {
    let mut batch = Batch::default();
    batch.push(&frame(vec![5; 1 << 20])).unwrap();
    let bytes = bytes_of(batch);
    let mut decoder = Decoder::default();
    let mut at = decoder.fill(&bytes);
    assert_eq!(at, HEAD, "the first read is short");
    assert!(decoder.next_message::<transcode::Command>().unwrap().is_none());
    let buffer = decoder.spare().as_ptr();
    at += decoder.fill(&bytes[at..]);
    assert_eq!(at, bytes.len(), "the second takes all the rest");
    let message = decoder.next_message::<transcode::Command>().unwrap();
    let Some(transcode::Command::Frame(frame)) = message else { panic!("{message:?}") };
    assert_eq!((frame.data.as_ptr(), frame.data.len()), (buffer, 1 << 20));
}

#[test]
fn long_header_leaves_no_memory_behind() {
    let mut batch = Batch::default();
    let fault = Fault::new(Blame::Us, "x".repeat(500_000));
    batch.push(&transcode::Event::Failed(fault)).unwrap();
    batch.push(&transcode::Event::Finished).unwrap();
    let bytes = bytes_of(batch);
    let (mut decoder, mut rest, mut count) = (Decoder::default(), &bytes[..], 0);
    while !rest.is_empty() {
        rest = &rest[decoder.fill(rest)..];
        count += std::iter::from_fn(|| decoder.next_message::<transcode::Event>().unwrap()).count();
    }
    decoder.spare();
    assert_eq!(count, 2);
    assert!(decoder.head.capacity() <= 2 * HEAD, "{}", decoder.head.capacity());
}

#[test]
fn too_long_is_refused_on_both_sides() {
    for lengths in [[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]] {
        assert!(matches!(decoded::<transcode::Event>(&lengths, 8), Err(Error::TooLong(_))));
    }
    assert!(matches!(decoded::<transcode::Event>(&[0xff; 4], 4), Err(Error::TooLong(_))), "before more comes");
    let mut batch = Batch::default();
    assert!(matches!(batch.push(&frame(vec![0; MAX_PAYLOAD + 1])), Err(Error::TooLong(_))));
    let fault = Fault::new(Blame::Us, "x".repeat(MAX_HEADER));
    assert!(matches!(batch.push(&Ready(Err(fault))), Err(Error::TooLong(_))));
    assert!(!batch.has_remaining());
    batch.push(&Hello::OURS).unwrap();
    assert_eq!(decoded::<Hello>(&bytes_of(batch), 3).unwrap(), [Hello::OURS]);
}

#[test]
fn payload_where_none_belongs_is_an_error() {
    let mut batch = Batch::default();
    batch.push(&transcode::Command::Finish).unwrap();
    let mut bytes = bytes_of(batch).to_vec();
    bytes[4] = 1;
    bytes.push(0);
    assert!(matches!(decoded::<transcode::Command>(&bytes, 99), Err(Error::UnexpectedPayload(1))));
}
