//! What tells one version of a file from another. Pure.

/// What a server says of a file's version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Its ETag.
    pub etag: Option<String>,
    /// When it was modified.
    pub modified: Option<String>,
}

impl Version {
    /// Whether this is another version than `other`. Servers behind one name may give the same file ETags of their own (by inode), or
    /// only some of them one, so that either of both is enough for it to be the same.
    pub fn is_other(&self, other: &Self) -> bool {
        // A weak ETag is as good as a strong one here: what differs is how it was compressed.
        let bare = |etag: &Option<String>| etag.as_ref().map(|e| e.trim_start_matches("W/").to_owned());
        let pairs = [(bare(&self.etag), bare(&other.etag)), (self.modified.clone(), other.modified.clone())];
        let known: Vec<bool> = pairs.iter().filter_map(|(a, b)| Some(a.as_ref()? == b.as_ref()?)).collect();
        !known.is_empty() && !known.contains(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(etag: Option<&str>, modified: Option<&str>) -> Version {
        Version { etag: etag.map(str::to_owned), modified: modified.map(str::to_owned) }
    }

    #[test]
    fn either_mark_is_enough() {
        let first = version(Some("\"a\""), Some("Monday"));
        for same in [
            first.clone(),
            version(Some("W/\"a\""), None),
            version(Some("\"b\""), Some("Monday")),
            version(None, Some("Monday")),
            version(None, None),
        ] {
            assert!(!first.is_other(&same) && !same.is_other(&first), "{same:?}");
        }
        for other in
            [version(Some("\"b\""), Some("Tuesday")), version(Some("\"b\""), None), version(None, Some("Friday"))]
        {
            assert!(first.is_other(&other) && other.is_other(&first), "{other:?}");
        }
    }
}
