//! Flow control (RFC 9113 5.2 and 6.9): how many bytes of DATA a side may still send.

/// The largest window, in bytes.
pub const MAX: u32 = (1 << 31) - 1;

/// A window, in bytes. It may be below zero after the peer has changed its settings (RFC 9113 6.9.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(i64);

/// More than a window can hold, or than was left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrun;

impl Window {
    /// A window of so many bytes, at most [`MAX`].
    #[must_use]
    pub fn new(bytes: u32) -> Self {
        Self(i64::from(bytes))
    }

    /// How many bytes may be sent now.
    #[must_use]
    pub fn room(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Uses so many bytes up.
    ///
    /// # Errors
    /// [`Overrun`] when there are fewer.
    pub fn take(&mut self, bytes: usize) -> Result<(), Overrun> {
        if bytes > self.room() {
            return Err(Overrun);
        }
        // No window is larger than that.
        self.0 -= i64::from(bytes as u32);
        Ok(())
    }

    /// Makes it so many bytes larger.
    ///
    /// # Errors
    /// [`Overrun`] beyond [`MAX`].
    pub fn grow(&mut self, bytes: u32) -> Result<(), Overrun> {
        self.change(0, bytes)
    }

    /// Makes it larger or smaller by what lies between two sizes of new windows.
    ///
    /// # Errors
    /// [`Overrun`] beyond [`MAX`].
    pub fn change(&mut self, from: u32, to: u32) -> Result<(), Overrun> {
        self.0 += i64::from(to) - i64::from(from);
        if self.0 > i64::from(MAX) { Err(Overrun) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_no_more_and_gives_no_more_than_it_has() {
        let mut window = Window::new(10);
        assert_eq!((window.take(11), window.take(10), window.room()), (Err(Overrun), Ok(()), 0));
        assert_eq!((window.change(7, 2), window.room()), (Ok(()), 0));
        assert_eq!((window.grow(7), window.room()), (Ok(()), 2));
        assert_eq!(window.grow(MAX - 2), Ok(()));
        assert_eq!(window.grow(1), Err(Overrun));
    }
}
