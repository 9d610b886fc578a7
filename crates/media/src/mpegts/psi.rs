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
    // Behind the list are four bytes of CRC.
    let list = section.get(8..section.len().checked_sub(4)?)?;
    let entries = list.as_chunks::<4>().0;
    let first = entries.iter().find(|e| e[0] != 0 || e[1] != 0)?;
    Some(u16::from_be_bytes([first[2] & 0x1F, first[3]]))
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
