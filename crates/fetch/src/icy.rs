//! Removes the titles that radio servers insert between audio (SHOUTcast's `icy-metaint`). A server may send them only to a
//! client that asks for them; some send them to us although we do not. Without IO.

/// A title's length byte counts units of 16 bytes.
const TITLE_UNIT: usize = 16;

/// Removes titles from a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Titles {
    every: usize,
    /// Bytes of media before the next length byte.
    left: usize,
    /// Bytes of the current title still to come.
    title: usize,
}

impl Titles {
    /// For a body with a title after each `every` bytes of media; `None` if `every` is 0: there are no titles.
    pub fn every(every: usize) -> Option<Self> {
        (every > 0).then_some(Self { every, left: every, title: 0 })
    }

    /// The media among the next bytes.
    pub fn strip(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut media = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            if self.title > 0 {
                let n = self.title.min(bytes.len());
                self.title -= n;
                bytes = &bytes[n..];
            } else if self.left > 0 {
                let n = self.left.min(bytes.len());
                media.extend_from_slice(&bytes[..n]);
                self.left -= n;
                bytes = &bytes[n..];
            } else {
                self.title = usize::from(bytes[0]) * TITLE_UNIT;
                self.left = self.every;
                bytes = &bytes[1..];
            }
        }
        media
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn titles_are_removed_wherever_the_body_is_cut(
            media in proptest::collection::vec(any::<u8>(), 0..500), every in 1usize..50, sizes in proptest::collection::vec(0u8..5, 1..10), cut in 1usize..40,
        ) {
            let mut body = Vec::new();
            for (i, part) in media.chunks(every).enumerate() {
                body.extend_from_slice(part);
                if part.len() == every {
                    let size = sizes[i % sizes.len()];
                    body.push(size);
                    body.extend(std::iter::repeat_n(b'T', usize::from(size) * TITLE_UNIT));
                }
            }
            let mut titles = Titles::every(every).unwrap();
            let out: Vec<u8> = body.chunks(cut).flat_map(|piece| titles.strip(piece)).collect();
            prop_assert_eq!(out, media);
        }
    }

    #[test]
    fn interval_zero_means_no_titles() {
        assert_eq!(Titles::every(0), None);
    }
}
