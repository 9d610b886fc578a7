//! AES-128 in CBC mode with PKCS#7 padding, which HLS encrypts whole segments with (RFC 8216 §4.3.2.4).

use crate::Error;
use aes::Aes128;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};

/// Decrypts a whole segment in place and removes its padding.
///
/// # Errors
/// [`Error::Playlist`] if the length is not a multiple of a block, or the padding is wrong (usually: the key is).
pub(crate) fn decrypt(key: [u8; 16], iv: [u8; 16], data: &mut Vec<u8>) -> Result<(), Error> {
    let cipher = cbc::Decryptor::<Aes128>::new(&key.into(), &iv.into());
    let wrong = |_| Error::Playlist("an encrypted segment does not decrypt: its length or padding is wrong");
    let length = cipher.decrypt_padded::<Pkcs7>(data).map_err(wrong)?.len();
    data.truncate(length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_text_decrypts() {
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
