//! Server-sent events (the WHATWG's HTML standard, section 9.2), read from pieces of any size.
//!
//! Holds the line that has not ended and the data of the event that has not ended, both bounded.

/// What a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A line that is passed over, such as a heartbeat: somebody is there.
    Comment,
    /// An event.
    Event {
        /// Its id, where it has one.
        id: Option<String>,
        /// Its name.
        name: String,
        /// Its data, lines joined.
        data: String,
    },
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A line, or the data of an event, is longer than this.
    TooLarge(usize),
    /// A line is not UTF-8.
    NotText,
}

/// Bytes a line or an event has at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) line_bytes_max: usize,
    pub(super) event_bytes_max: usize,
}

#[derive(Debug)]
pub(super) struct Parser {
    bounds: Bounds,
    bytes: Vec<u8>,
    /// Where the line begins that has not ended.
    begin: usize,
    /// Up to where no end of it was found.
    looked: usize,
    /// The line before ended with a carriage return, of which a line feed may be the other half.
    is_after_return: bool,
    is_first_line: bool,
    id: Option<String>,
    name: String,
    data: Option<String>,
}

impl Parser {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            bytes: Vec::new(),
            begin: 0,
            looked: 0,
            is_after_return: false,
            is_first_line: true,
            id: None,
            name: String::new(),
            data: None,
        }
    }

    /// Takes in what came. What was there before has been asked for with [`Self::next`] until there was no more.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.begin);
        self.looked -= self.begin;
        self.begin = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// What comes next of what is there.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Fault> {
        while let Some(line) = self.line()? {
            if let Some(frame) = self.take_line(&line)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<Option<String>, Fault> {
        if self.is_after_return && self.begin < self.bytes.len() {
            self.is_after_return = false;
            if self.bytes[self.begin] == b'\n' {
                self.begin += 1;
                self.looked = self.looked.max(self.begin);
            }
        }
        let end = self.bytes[self.looked..].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let end = end.map(|end| self.looked + end);
        self.looked = end.unwrap_or(self.bytes.len());
        if self.looked - self.begin > self.bounds.line_bytes_max {
            return Err(Fault::TooLarge(self.bounds.line_bytes_max));
        }
        let Some(end) = end else { return Ok(None) };
        let line = std::str::from_utf8(&self.bytes[self.begin..end]).map_err(|_| Fault::NotText)?;
        let line = if self.is_first_line { line.trim_start_matches('\u{feff}') } else { line }.to_owned();
        self.is_first_line = false;
        self.is_after_return = self.bytes[end] == b'\r';
        self.begin = end + 1;
        self.looked = self.begin;
        Ok(Some(line))
    }

    fn take_line(&mut self, line: &str) -> Result<Option<Frame>, Fault> {
        if line.is_empty() {
            return Ok(self.event());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => return Ok(Some(Frame::Comment)),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.name),
            "data" => self.add_data(value)?,
            // `retry` is not for us, who have bounds of our own; others do not mean anything yet.
            _ => {}
        }
        Ok(None)
    }

    fn add_data(&mut self, value: &str) -> Result<(), Fault> {
        let held = self.data.as_ref().map_or(0, |data| data.len() + 1);
        if held + value.len() > self.bounds.event_bytes_max {
            return Err(Fault::TooLarge(self.bounds.event_bytes_max));
        }
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => self.data = Some(value.to_owned()),
        }
        Ok(())
    }

    /// The event that a blank line ends; one without data is none.
    fn event(&mut self) -> Option<Frame> {
        let (id, name, data) = (self.id.take(), std::mem::take(&mut self.name), self.data.take());
        data.map(|data| Frame::Event { id, name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Bounds = Bounds { line_bytes_max: 1_000, event_bytes_max: 1_000 };

    fn read(parser: &mut Parser, pieces: &[&[u8]]) -> Result<Vec<Frame>, Fault> {
        let mut frames = Vec::new();
        for piece in pieces {
            parser.push(piece);
            while let Some(frame) = parser.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    fn event(id: Option<&str>, name: &str, data: &str) -> Frame {
        Frame::Event { id: id.map(str::to_owned), name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn a_stream_says_the_same_in_whatever_pieces_it_comes() {
        let text = "\u{feff}: heartbeat\n\nid: 1\nevent: text\ndata: {\"é\":\"名\"}\n\nretry: 5\r\ndata:a\r\ndata: b\r\n\r\n\
                    id:2\rdata\r\rnew: x\nevent: none\n\n";
        let expected = vec![
            Frame::Comment,
            event(Some("1"), "text", "{\"é\":\"名\"}"),
            event(None, "", "a\nb"),
            event(Some("2"), "", ""),
        ];
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(read(&mut Parser::new(WIDE), &pieces).as_ref(), Ok(&expected), "in pieces of {size} bytes");
        }
    }

    #[test]
    fn an_event_that_has_not_ended_is_not_told() {
        let mut parser = Parser::new(WIDE);
        assert_eq!(read(&mut parser, &[b"id: 1\ndata: a\n"]), Ok(Vec::new()));
        assert_eq!(read(&mut parser, &[b"\n"]), Ok(vec![event(Some("1"), "", "a")]));
    }

    #[test]
    fn lines_and_events_are_bounded_also_while_they_come() {
        let bounds = Bounds { line_bytes_max: 16, event_bytes_max: 20 };
        let mut parser = Parser::new(bounds);
        assert_eq!(read(&mut parser, &[b"data: 12", b"34567890", b"1"]), Err(Fault::TooLarge(16)));
        let lines: [&[u8]; 3] = [b"data: 1234567890\n", b"data: 123456789\n", b"data: 1\n"];
        let mut parser = Parser::new(bounds);
        assert_eq!(read(&mut parser, &lines), Err(Fault::TooLarge(20)));
        let mut parser = Parser::new(bounds);
        let many: Vec<&[u8]> = std::iter::repeat_n(&b"data: 1234567890\n\n"[..], 100).collect();
        assert_eq!(read(&mut parser, &many).map(|frames| frames.len()), Ok(100));
        assert!(parser.bytes.len() <= 18, "{} bytes are held", parser.bytes.len());
    }

    #[test]
    fn what_is_no_text_is_told_from_what_is_cut_within_a_character() {
        let mut parser = Parser::new(WIDE);
        assert_eq!(read(&mut parser, &[b"data: \xc3", b"\xa9\n\n"]), Ok(vec![event(None, "", "é")]));
        assert_eq!(read(&mut parser, &[b"data: \xc3\n\n"]), Err(Fault::NotText));
    }
}
