//! Conditions on the arguments of a call.

use crate::Error;
use seccompiler::{SeccompCmpArgLen as Length, SeccompCmpOp as Operator, SeccompCondition, SeccompRule};

/// One condition on the lower 32 bits of an argument, which are all that these arguments have.
#[derive(Clone, Copy)]
pub(super) enum Is {
    /// Argument `.0` is this.
    Equal(u8, u64),
    /// Argument `.0` is not this.
    Other(u8, u64),
    /// The bits `.1` of argument `.0` are these.
    Bits(u8, u64, u64),
}

impl Is {
    fn condition(self) -> Result<SeccompCondition, Error> {
        Ok(match self {
            Self::Equal(argument, value) => SeccompCondition::new(argument, Length::Dword, Operator::Eq, value),
            Self::Other(argument, value) => SeccompCondition::new(argument, Length::Dword, Operator::Ne, value),
            Self::Bits(argument, mask, value) => {
                SeccompCondition::new(argument, Length::Dword, Operator::MaskedEq(mask), value)
            }
        }?)
    }
}

/// A rule that fits where all of these hold.
pub(super) fn all(conditions: &[Is]) -> Result<SeccompRule, Error> {
    let conditions: Result<_, _> = conditions.iter().map(|is| is.condition()).collect();
    Ok(SeccompRule::new(conditions?)?)
}

/// Rules of which one fits where the argument is one of these.
pub(super) fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, Error> {
    values.iter().map(|value| all(&[Is::Equal(argument, *value)])).collect()
}
