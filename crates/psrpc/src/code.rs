//! The codes of psrpc's errors.

/// What kind of failure an answer reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Code {
    Canceled,
    MalformedRequest,
    MalformedResult,
    DeadlineExceeded,
    Unavailable,
    Unknown,
    InvalidArgument,
    NotFound,
    NotAcceptable,
    UnprocessableEntity,
    AlreadyExists,
    Aborted,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    OutOfRange,
    Unimplemented,
    Internal,
    DataLoss,
    Unauthenticated,
    UpstreamClientError,
    UpstreamServerError,
}

/// Each code with its name on the wire and the HTTP status psrpc gives it.
const TABLE: [(Code, &str, u16); 22] = [
    (Code::Canceled, "canceled", 503),
    (Code::MalformedRequest, "malformed_request", 400),
    (Code::MalformedResult, "malformed_result", 500),
    (Code::DeadlineExceeded, "deadline_exceeded", 503),
    (Code::Unavailable, "unavailable", 503),
    (Code::Unknown, "unknown", 500),
    (Code::InvalidArgument, "invalid_argument", 400),
    (Code::NotFound, "not_found", 404),
    (Code::NotAcceptable, "not_acceptable", 406),
    (Code::UnprocessableEntity, "unprocessable_entity", 422),
    (Code::AlreadyExists, "already_exists", 409),
    (Code::Aborted, "aborted", 409),
    (Code::PermissionDenied, "permission_denied", 403),
    (Code::ResourceExhausted, "resource_exhausted", 429),
    (Code::FailedPrecondition, "failed_precondition", 412),
    (Code::OutOfRange, "out_of_range", 416),
    (Code::Unimplemented, "unimplemented", 501),
    (Code::Internal, "internal", 500),
    (Code::DataLoss, "data_loss", 500),
    (Code::Unauthenticated, "unauthenticated", 401),
    (Code::UpstreamClientError, "upstream_client_error", 424),
    (Code::UpstreamServerError, "upstream_server_error", 502),
];

impl Code {
    /// The code with this name on the wire; an unknown name counts as [`Code::Unknown`].
    pub fn from_wire(name: &str) -> Self {
        TABLE.iter().find(|row| row.1 == name).map_or(Self::Unknown, |row| row.0)
    }

    /// Its word on the wire.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The HTTP status that says the same.
    pub fn http_status(self) -> u16 {
        self.row().2
    }

    /// Whether the same request may succeed a little later: the codes on which livekit-server's own clients try again (errors
    /// without a code among them, which is how a server passes its own Redis' troubles on), and the one that says a server is
    /// full.
    pub fn retryable(self) -> bool {
        matches!(self, Self::DeadlineExceeded | Self::Unavailable | Self::ResourceExhausted | Self::Unknown)
    }

    fn row(self) -> (Self, &'static str, u16) {
        // The test below holds the table to the order of the enum.
        TABLE[self as usize]
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_in_enum_order() {
        for (i, (code, word, _)) in TABLE.into_iter().enumerate() {
            assert_eq!(code as usize, i);
            assert_eq!((code.as_str(), Code::from_wire(word)), (word, code));
        }
        // The enum's last member, so that none is missing from the table.
        assert_eq!(Code::UpstreamServerError as usize + 1, TABLE.len());
        assert_eq!(Code::from_wire("something new"), Code::Unknown);
        assert_eq!(Code::from_wire(""), Code::Unknown);
    }

    #[test]
    fn statuses_are_those_of_psrpc() {
        assert_eq!(Code::NotFound.http_status(), 404);
        assert_eq!(Code::ResourceExhausted.http_status(), 429);
        assert_eq!(Code::UpstreamServerError.http_status(), 502);
        assert_eq!(Code::FailedPrecondition.http_status(), 412);
    }
}
