//! Chunks: every header, every cut, every bound.

use super::*;
use crate::testing::{Chunker, Sent};
use proptest::prelude::*;

fn reader() -> Reader {
    Reader::new(MessageLimits::published(&Limits::default()))
}

fn read_all(reader: &mut Reader, mut bytes: &[u8]) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    while let Some(message) = reader.next(&mut bytes)? {
        messages.push(message);
    }
    assert!(bytes.is_empty());
    Ok(messages)
}

/// The timestamps of messages with bodies of `length` bytes, made of `headers` that are each followed by a body.
fn timestamps(headers: &[&[u8]], length: usize) -> Vec<u32> {
    let mut bytes = Vec::new();
    for header in headers {
        bytes.extend(*header);
        bytes.extend(vec![9; length]);
    }
    read_all(&mut reader(), &bytes).unwrap().iter().map(|m| m.timestamp).collect()
}

#[test]
fn each_header_type_inherits_omitted_fields() {
    let full: &[u8] = &[4, 0, 0, 100, 0, 0, 2, 9, 1, 0, 0, 0];
    let short: &[u8] = &[0x44, 0, 0, 20, 0, 0, 2, 9];
    let time_only: &[u8] = &[0x84, 0, 0, 30];
    let nothing: &[u8] = &[0xc4];
    assert_eq!(timestamps(&[full, short, time_only, nothing, nothing], 2), [100, 120, 150, 180, 210]);
    // Right behind an absolute timestamp, that is the delta (RTMP §5.3.1.2.4).
    assert_eq!(timestamps(&[full, nothing, full, full], 2), [100, 200, 100, 100]);
    // Deltas below zero wrap, as GStreamer sends them.
    assert_eq!(timestamps(&[full, &[0x84, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]], 2), [100, 98]);
}

#[test]
fn basic_headers_have_one_to_three_bytes() {
    for id in [3, 63, 64, 319, 320, 65_599] {
        let bytes = Chunker::new(128).message(id, 18, 7, 0, &[1; 300]);
        let mut reader = reader();
        assert_eq!(read_all(&mut reader, &bytes).unwrap().len(), 1);
        assert_eq!(reader.streams[0].id, id);
    }
}

#[test]
fn extended_timestamps_repeated_or_not() {
    for repeat in [true, false] {
        for length in [1, 2, 3, 4, 5, 127, 128, 129, 130, 131, 132, 600] {
            let mut chunker = Chunker { repeat_extended: repeat, compress: true, ..Chunker::new(128) };
            let sent: Vec<_> = [0xff_ffff, 0xff_ffff + 1, 0xffff_fff0, 5].map(|t| (t, vec![0xab; length])).into();
            let bytes: Vec<u8> = sent.iter().flat_map(|(t, body)| chunker.message(5, 9, *t, 1, body)).collect();
            for cut in [1, 3, 7, 1000] {
                let mut reader = reader();
                let got: Vec<_> = bytes.chunks(cut).flat_map(|c| read_all(&mut reader, c).unwrap()).collect();
                let got: Vec<_> = got.into_iter().map(|m| (m.timestamp, m.body.to_vec())).collect();
                assert_eq!(got, sent, "repeat {repeat} length {length} cut {cut}");
            }
        }
    }
}

#[test]
fn payload_like_an_extended_timestamp_stays_payload() {
    // 0x01000000 not repeated; the continued chunk begins with 01 00 and the next message follows in the same bytes.
    let mut chunker = Chunker { repeat_extended: false, ..Chunker::new(128) };
    let mut body = vec![7; 128];
    body.extend([1, 0]);
    let mut bytes = chunker.message(5, 9, 0x0100_0000, 1, &body);
    bytes.extend(chunker.message(6, 8, 3, 1, &[5; 4]));
    for cut in 1..20 {
        let mut reader = reader();
        let got: Vec<_> = bytes.chunks(cut).flat_map(|c| read_all(&mut reader, c).unwrap()).collect();
        assert_eq!(got.iter().map(|m| m.body.to_vec()).collect::<Vec<_>>(), [body.clone(), vec![5; 4]], "cut {cut}");
    }
}

#[test]
fn chunk_sizes_are_bounded_and_take_effect_at_once() {
    let mut reader = reader();
    for refused in [0, 0x8000_0000, u32::MAX] {
        assert_eq!(reader.set_chunk_size(refused), Err(Error::ChunkSize(refused)));
    }
    reader.set_chunk_size(1).unwrap();
    assert_eq!(
        read_all(&mut reader, &Chunker::new(1).message(3, 18, 0, 0, &[1, 2, 3])).unwrap()[0].body,
        [1, 2, 3][..]
    );
    reader.set_chunk_size(i32::MAX as u32).unwrap();
    let long = vec![4; 50_000];
    assert_eq!(read_all(&mut reader, &Chunker::new(60_000).message(3, 18, 0, 0, &long)).unwrap()[0].body, long);
}

#[test]
fn an_aborted_message_is_forgotten() {
    let mut chunker = Chunker::new(128);
    let mut reader = reader();
    let chunks = chunker.chunks(&Sent { id: 4, kind: 9, timestamp: 0, stream: 1, body: vec![1; 300] });
    assert_eq!(read_all(&mut reader, &chunks[0]).unwrap(), []);
    reader.abort(4);
    reader.abort(99);
    assert_eq!((reader.buffered, reader.in_flight), (0, 0));
    assert_eq!(read_all(&mut reader, &chunker.message(4, 9, 0, 1, &[2; 200])).unwrap()[0].body, vec![2; 200]);
}

#[test]
fn a_compressed_first_header_is_refused() {
    assert_eq!(read_all(&mut reader(), &[0xc4, 1]), Err(Error::NoPrecedingHeader));
    assert_eq!(read_all(&mut reader(), &[0x84, 0, 0, 1]), Err(Error::NoPrecedingHeader));
    // Type 1 is what librtmp opens its control stream with.
    assert_eq!(timestamps(&[&[0x42, 0, 0, 9, 0, 0, 6, 4]], 6), [9]);
}

#[test]
fn a_header_inside_a_message_must_agree_with_it() {
    let mut bytes = vec![4, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0];
    bytes.extend([1; 128]);
    let mut other = bytes.clone();
    bytes.extend([0x44, 0, 0, 0, 0, 0, 200, 9]);
    bytes.extend([1; 72]);
    assert_eq!(read_all(&mut reader(), &bytes).unwrap().len(), 1);
    other.extend([0x44, 0, 0, 0, 0, 0, 201, 9]);
    assert_eq!(read_all(&mut reader(), &other), Err(Error::HeaderInsideMessage));
}

#[test]
fn declared_lengths_cost_nothing() {
    let mut reader = reader();
    for id in 3..19 {
        let mut bytes = vec![id, 0, 0, 0, 0x80, 0, 0, 9, 1, 0, 0, 0];
        bytes.push(1);
        let mut input = &bytes[..];
        // One byte of a chunk of 8 MiB, and on to the next chunk stream is not possible: so a chunk of one byte each.
        reader.set_chunk_size(1).unwrap();
        assert_eq!(reader.next(&mut input), Ok(None));
    }
    assert_eq!(reader.in_flight, 16);
    assert_eq!(reader.buffered, 16 * FIRST_BUFFER);
    assert_eq!(read_all(&mut reader, &[19, 0, 0, 0, 0, 0, 9, 9, 1, 0, 0, 0]), Err(Error::TooManyInFlight(16)));
}

#[test]
fn lengths_and_numbers_are_bounded() {
    let limit = Limits::default().media_message;
    let declared = |kind: u8, length: u32| {
        let l = length.to_be_bytes();
        read_all(&mut reader(), &[4, 0, 0, 0, l[1], l[2], l[3], kind, 1, 0, 0, 0])
    };
    assert_eq!(declared(9, limit as u32), Ok(vec![]));
    let too_long = |length, limit| Err(Error::MessageTooLong { length, limit });
    assert_eq!(declared(9, limit as u32 + 1), too_long(limit + 1, limit));
    assert_eq!(declared(22, limit as u32 + 1), too_long(limit + 1, limit));
    for kind in [1, 17, 20, 99] {
        assert_eq!(declared(kind, 65_537), too_long(65_537, 65_536));
    }
    let mut unpublished = Reader::new(MessageLimits::unpublished(&Limits::default()));
    assert_eq!(read_all(&mut unpublished, &[4, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0]), Err(Error::MediaBeforePublish));
    let mut reader = reader();
    let mut chunker = Chunker::new(128);
    for id in 3..67 {
        assert_eq!(read_all(&mut reader, &chunker.message(id, 18, 0, 0, &[])).unwrap().len(), 1);
    }
    assert_eq!(read_all(&mut reader, &chunker.message(67, 18, 0, 0, &[])), Err(Error::TooManyChunkStreams(64)));
}

#[test]
fn long_data_is_skipped() {
    for cut in [1, 7, 100_000] {
        let (mut reader, mut chunker) = (reader(), Chunker::new(128));
        let mut bytes = chunker.message(4, 18, 0, 1, &[9; 200_000]);
        bytes.extend(chunker.message(6, 9, 40, 1, &[1, 2, 3]));
        let mut messages = Vec::new();
        for mut piece in bytes.chunks(cut) {
            while let Some(message) = reader.next(&mut piece).unwrap() {
                messages.push((message.kind, message.timestamp, message.body));
            }
            assert!(reader.buffered <= FIRST_BUFFER);
        }
        assert_eq!(messages, [(9, 40, Bytes::from_static(&[1, 2, 3]))]);
        assert_eq!((reader.buffered, reader.in_flight), (0, 0));
    }
    // Before a publish nothing may be long.
    let mut unpublished = Reader::new(MessageLimits::unpublished(&Limits::default()));
    let header = [4, 0, 0, 0, 1, 0, 1, 18, 1, 0, 0, 0];
    assert!(matches!(read_all(&mut unpublished, &header), Err(Error::MessageTooLong { .. })));
}

#[test]
fn unfinished_messages_share_one_bound() {
    let mut reader = Reader::new(MessageLimits { buffered: 10_000, ..MessageLimits::published(&Limits::default()) });
    let mut refused = None;
    for id in 3..8 {
        let chunks = Chunker::new(4_000).chunks(&Sent { id, kind: 9, timestamp: 0, stream: 1, body: vec![1; 9_000] });
        reader.set_chunk_size(4_000).unwrap();
        refused = refused.or(read_all(&mut reader, &chunks[0]).err().map(|e| (id, e)));
    }
    assert_eq!(refused, Some((5, Error::BufferFull(10_000))));
}

#[test]
fn a_message_holds_no_more_than_its_length() {
    let mut reader = reader();
    let body = vec![3; 1_000_000];
    let bytes = Chunker::new(128).message(4, 9, 0, 1, &body);
    let got = bytes.chunks(1500).find_map(|c| read_all(&mut reader, c).unwrap().pop()).unwrap();
    assert_eq!(got.body, body);
    assert_eq!(reader.buffered, 0);
    assert!(got.body.try_into_mut().unwrap().capacity() <= body.len());
}

fn any_message() -> impl Strategy<Value = Sent> {
    let id = prop_oneof![3u32..7, Just(64), Just(400)];
    let timestamp = prop_oneof![0u32..100, 0xff_fff0u32..0x100_0010, any::<u32>()];
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        proptest::collection::vec(any::<u8>(), 120..140),
        proptest::collection::vec(any::<u8>(), 0..2000),
    ];
    (id, 8u8..10, timestamp, 0u32..3, body).prop_map(|(id, kind, timestamp, stream, body)| Sent {
        id,
        kind,
        timestamp,
        stream,
        body,
    })
}

proptest! {
    #[test]
    fn messages_survive_chunking(
        sent in proptest::collection::vec(any_message(), 1..12),
        (chunk_size, compress, repeat_extended) in (1usize..300, any::<bool>(), any::<bool>()),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 400),
        cut in 1usize..500,
    ) {
        let mut chunker = Chunker { compress, repeat_extended, ..Chunker::new(chunk_size) };
        // Each chunk stream's chunks stay in order; any of them may be next.
        let mut queues: Vec<(u32, std::collections::VecDeque<Vec<u8>>)> = Vec::new();
        for message in &sent {
            let chunks = chunker.chunks(message);
            match queues.iter_mut().find(|(id, _)| *id == message.id) {
                Some((_, queue)) => queue.extend(chunks),
                None => queues.push((message.id, chunks.into())),
            }
        }
        let mut bytes = Vec::new();
        let mut order = order.iter().cycle();
        while !queues.is_empty() {
            let at = order.next().unwrap().index(queues.len());
            bytes.extend(queues[at].1.pop_front().unwrap());
            if queues[at].1.is_empty() {
                queues.remove(at);
            }
        }
        let mut reader = reader();
        reader.set_chunk_size(chunk_size as u32).unwrap();
        let mut got = Vec::new();
        for piece in bytes.chunks(cut) {
            got.extend(read_all(&mut reader, piece).unwrap());
        }
        // Order holds within a chunk stream: compare as sets of lines, those being unique enough.
        let line = |kind: u8, timestamp: u32, stream: u32, body: &[u8]| format!("{kind} {timestamp} {stream} {body:?}");
        let mut wanted: Vec<_> = sent.iter().map(|s| line(s.kind, s.timestamp, s.stream, &s.body)).collect();
        let mut got: Vec<_> = got.iter().map(|m| line(m.kind, m.timestamp, m.stream, &m.body)).collect();
        wanted.sort();
        got.sort();
        prop_assert_eq!(got, wanted);
        prop_assert_eq!((reader.buffered, reader.in_flight), (0, 0));
    }

    #[test]
    fn noise_ends_in_an_error_or_waits(noise in proptest::collection::vec(any::<u8>(), 0..4000), cut in 1usize..100) {
        let mut reader = reader();
        'noise: for piece in noise.chunks(cut) {
            let mut input = piece;
            loop {
                match reader.next(&mut input) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'noise,
                }
            }
            prop_assert!(input.is_empty() && reader.pending.len() < MAX_HEADER);
            prop_assert!(reader.buffered <= noise.len() * 2 + 16 * FIRST_BUFFER);
        }
    }
}
