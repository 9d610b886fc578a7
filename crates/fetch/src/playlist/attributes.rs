//! Attribute lists (RFC 8216 §4.2) and variables (RFC 8216bis §4.3) of playlists. Pure.

use crate::Error;

/// The most variables of one playlist, and the longest value in bytes. Real ones hold a host or a token.
const MAX_VARIABLES: usize = 64;
const MAX_VALUE: usize = 8192;

/// The value of one attribute of a list such as `A=1,B="x,y",C=z`, without its quotes.
pub(super) fn attribute(list: &str, wanted: &str) -> Option<String> {
    let mut rest = list;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, next) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value, next.split_once(',').map_or("", |(_, next)| next))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if name.trim() == wanted {
            return Some(value.trim().to_owned());
        }
        rest = next;
    }
    None
}

/// Variables by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(Vec<(String, String)>);

impl Variables {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|(n, value)| (n == name).then_some(value.as_str()))
    }

    /// Takes the attributes of an `EXT-X-DEFINE`; `query` and `imported` are what it may refer to.
    pub(super) fn define(&mut self, list: &str, query: &[(String, String)], imported: &Self) -> Result<(), Error> {
        let missing = Error::Playlist("it takes a variable from its address or its master playlist that is not there");
        let (name, value) = if let Some(name) = attribute(list, "NAME") {
            (name, attribute(list, "VALUE").unwrap_or_default())
        } else if let Some(name) = attribute(list, "QUERYPARAM") {
            let value = query.iter().find_map(|(n, value)| (*n == name).then(|| value.clone()));
            (name, value.ok_or(missing)?)
        } else if let Some(name) = attribute(list, "IMPORT") {
            let value = imported.get(&name).map(str::to_owned);
            (name, value.ok_or(missing)?)
        } else {
            return Ok(());
        };
        if self.0.len() == MAX_VARIABLES || value.len() > MAX_VALUE {
            return Err(Error::Playlist("it has too many variables, or too long ones"));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// The text with its variables replaced; `most` bytes at most may be added in all, and are taken off.
    pub(super) fn replace(&self, text: &str, most: &mut usize) -> Result<String, Error> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("{$") {
            let Some((name, after)) = after.split_once('}') else { break };
            let value = self.get(name).ok_or(Error::Playlist("it uses a variable that it does not define"))?;
            let left = most.checked_sub(value.len());
            *most = left.ok_or(Error::Playlist("its variables make it too long"))?;
            out += before;
            out += value;
            rest = after;
        }
        Ok(out + rest)
    }
}
