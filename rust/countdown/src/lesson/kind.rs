//! What a token is, as flags of one byte; 0 for a token that the model does not write itself.

/// The model itself writes it: set beside every other flag.
pub const WRITTEN: u8 = 1;
/// A digit of an equation's result, or of a trial's quotient: computed, not copied.
pub const RESULT: u8 = 2;
/// A digit of a result from 1,000 on.
pub const LARGE_RESULT: u8 = 4;
/// In the numbers or operations of a state line: recalled from the lines, long before, that named the node.
pub const STATE: u8 = 8;
/// Whether a number is the target.
pub const VERDICT: u8 = 16;
/// After a join.
pub const JOINED: u8 = 32;
/// The first of a line: which kind of line comes next.
pub const LINE: u8 = 64;
/// The numbers or the sign of a step that a thread which spawns shows, or the first token of its lines: chosen, and not
/// copied, where the order of steps is free.
pub const CHOICE: u8 = 128;
