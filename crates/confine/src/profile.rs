//! Whom to confine how far.

/// What a worker needs, by its work. It is fixed when the process starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Decodes, scales and encodes: no network.
    Transcode,
    /// Demultiplexes what it fetches from a URL: the network, and one temporary file without a name.
    DemuxUrl,
    /// Demultiplexes bytes of its parent: no network.
    DemuxBytes,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Transcode, Self::DemuxUrl, Self::DemuxBytes];

    /// As it stands on a worker's command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transcode => "transcode",
            Self::DemuxUrl => "demux-url",
            Self::DemuxBytes => "demux-bytes",
        }
    }

    /// The profile that is called so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == text)
    }

    /// Whether it opens sockets.
    pub(crate) fn uses_network(self) -> bool {
        self == Self::DemuxUrl
    }
}

/// How much confinement is asked for (`confinement` in the configuration).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As much as the kernel offers.
    #[default]
    Auto,
    /// Nothing starts where a layer is missing.
    Require,
    /// None: for debuggers and profilers.
    Never,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Require, Self::Never];

    /// As written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Never => "never",
        }
    }

    /// The mode that is called so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for profile in Profile::ALL {
            assert_eq!(Profile::parse(profile.as_str()), Some(profile));
        }
        for mode in Mode::ALL {
            assert_eq!(Mode::parse(mode.as_str()), Some(mode));
        }
        assert_eq!((Profile::parse("demux"), Mode::parse("off")), (None, None));
    }
}
