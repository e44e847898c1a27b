//! A text sealed with AES-256-GCM, as base64url of nonce, ciphertext and tag.

use crate::options;
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) fn seal(options: &options::Seal) -> anyhow::Result<()> {
    let key = bytes(&options.key).context("the key is not hexadecimal")?;
    let cipher = Aes256Gcm::new_from_slice(&key).map_err(|_| anyhow!("the key does not have 32 bytes"))?;
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce)?;
    let sealed =
        cipher.encrypt(&Nonce::from(nonce), options.text.as_bytes()).map_err(|_| anyhow!("the text is too long"))?;
    println!("{}", URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()));
    Ok(())
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    digits?.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + *pair.get(1)?).ok()).collect()
}
