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
        self.0.max(0) as usize
    }

    /// Uses so many bytes up.
    ///
    /// # Errors
    /// [`Overrun`] when there are fewer.
    pub fn take(&mut self, bytes: usize) -> Result<(), Overrun> {
        if bytes > self.room() {
            return Err(Overrun);
        }
        self.0 -= bytes as i64;
        Ok(())
    }

    /// Makes it so many bytes larger; smaller, if they are less than none.
    ///
    /// # Errors
    /// [`Overrun`] beyond [`MAX`].
    pub fn grow(&mut self, bytes: i64) -> Result<(), Overrun> {
        self.0 += bytes;
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
        assert_eq!((window.grow(-5), window.room()), (Ok(()), 0));
        assert_eq!((window.grow(7), window.room()), (Ok(()), 2));
        assert_eq!(window.grow(i64::from(MAX) - 2), Ok(()));
        assert_eq!(window.grow(1), Err(Overrun));
    }
}
