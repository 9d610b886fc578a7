//! AES-128 in CBC mode with PKCS#7 padding, as HLS encrypts segments (RFC 8216 §4.3.2.4).

use crate::Error;
use aes::Aes128;
use aes::cipher::{Block, BlockCipherDecrypt, KeyInit};

/// Decrypts a whole segment in place and cuts its padding off.
pub(crate) fn decrypt(key: [u8; 16], iv: [u8; 16], data: &mut Vec<u8>) -> Result<(), Error> {
    let wrong = Error::Playlist("an encrypted segment does not decrypt: its length or padding is wrong");
    if data.is_empty() || !data.len().is_multiple_of(16) {
        return Err(wrong);
    }
    let cipher = Aes128::new(&key.into());
    let mut before = iv;
    for chunk in data.as_chunks_mut::<16>().0 {
        let coded = *chunk;
        let mut block: Block<Aes128> = coded.into();
        cipher.decrypt_block(&mut block);
        for (out, (plain, chained)) in chunk.iter_mut().zip(block.iter().zip(before)) {
            *out = plain ^ chained;
        }
        before = coded;
    }
    let padding = usize::from(data.last().copied().unwrap_or(0));
    if !(1..=16).contains(&padding) || !data[data.len() - padding..].iter().all(|b| usize::from(*b) == padding) {
        return Err(wrong);
    }
    data.truncate(data.len() - padding);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_text() {
        // openssl enc -aes-128-cbc -K 000102…0f -iv 101112…1f of "hello, segment!!x"
        let key = std::array::from_fn(|i| i as u8);
        let iv = std::array::from_fn(|i| i as u8 + 16);
        let mut data = HELLO.to_vec();
        decrypt(key, iv, &mut data).unwrap();
        assert_eq!(data, b"hello, segment!!x");
        assert!(decrypt(key, iv, &mut vec![1; 15]).is_err());
        assert!(decrypt(key, iv, &mut vec![1; 32]).is_err());
        assert!(decrypt(key, iv, &mut Vec::new()).is_err());
    }

    const HELLO: &[u8] = &[
        0x13, 0x66, 0x4e, 0x8e, 0x63, 0x2d, 0x6b, 0xa9, 0x5c, 0x0f, 0xc7, 0x14, 0x28, 0x07, 0x34, 0x55, 0xca, 0x6a,
        0x27, 0xf7, 0x06, 0xdf, 0xa6, 0x04, 0x72, 0x7c, 0x50, 0x5e, 0x57, 0x64, 0x68, 0x9d,
    ];
}
