//! Programme specific information (ISO 13818-1 §2.4.4): sections, the programme association table (PAT) and programme maps (PMT).

/// The PID of the PAT.
pub(super) const PAT_PID: u16 = 0;
/// The PID of packets without content, which stands where a programme has no clock (§2.4.4.9).
const NO_PID: u16 = 0x1FFF;
/// The longest section (§2.4.4.11, and §2.4.4.10 for private ones).
pub(super) const MAX_SECTION: usize = 4096;

/// Bytes that a section has by its first three.
pub(super) fn section_length(head: &[u8; 3]) -> usize {
    3 + (usize::from(head[1] & 0xF) << 8 | usize::from(head[2]))
}

/// The section that begins and ends in this payload, as tables of one programme do.
pub(super) fn section(payload: &[u8]) -> Option<&[u8]> {
    let section = payload.get(1 + usize::from(*payload.first()?)..)?;
    section.get(..section_length(section.first_chunk()?))
}

/// The PID of the first programme's map, out of a PAT (§2.4.4.3).
pub(super) fn first_programme(section: &[u8]) -> Option<u16> {
    programmes(section).next().map(|(_, pid)| pid)
}

/// The programmes of a PAT (§2.4.4.3): their numbers, and the PIDs of their maps.
pub(super) fn programmes(section: &[u8]) -> impl Iterator<Item = (u16, u16)> {
    // Behind the list are four bytes of CRC.
    let list = section.get(8..section.len().saturating_sub(4)).unwrap_or_default();
    let entries = list.as_chunks::<4>().0.iter();
    let entries = entries.map(|e| (u16::from_be_bytes([e[0], e[1]]), u16::from_be_bytes([e[2] & 0x1F, e[3]])));
    // Number 0 is the network's own table.
    entries.filter(|(number, _)| *number != 0)
}

/// Whether streams of this stream_type are video: MPEG-1, MPEG-2, MPEG-4, H.264, HEVC (table 2-34).
pub(super) fn is_video(kind: u8) -> bool {
    [0x01, 0x02, 0x10, 0x1B, 0x24].contains(&kind)
}

/// The checksum of a section (annex A).
pub(super) fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8)
            .fold(crc ^ u32::from(*byte) << 24, |crc, _| if crc >> 31 == 1 { crc << 1 ^ 0x04C1_1DB7 } else { crc << 1 })
    })
}

/// The PID of the clock references, out of a PMT (§2.4.4.8); `None` if it has none.
pub(super) fn clock(section: &[u8]) -> Option<u16> {
    let pid = section.get(8..10).map(|p| u16::from_be_bytes([p[0] & 0x1F, p[1]]))?;
    (pid != NO_PID).then_some(pid)
}

/// The elementary streams of a PMT (§2.4.4.8): stream_type and PID.
pub(super) fn streams(section: &[u8]) -> impl Iterator<Item = (u8, u16)> {
    let mut at =
        section.get(10..12).map_or(section.len(), |info| 12 + (usize::from(info[0] & 0xF) << 8 | usize::from(info[1])));
    std::iter::from_fn(move || {
        // Behind the list are four bytes of CRC.
        let entry = section.get(at..at + 5)?.first_chunk::<5>().filter(|_| at + 9 <= section.len())?;
        let [kind, high, low, more, length] = *entry;
        at += 5 + (usize::from(more & 0xF) << 8 | usize::from(length));
        Some((kind, u16::from_be_bytes([high & 0x1F, low])))
    })
}
