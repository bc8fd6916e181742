//! Frames of a connection between two processes: a kind, a length, bytes.

use std::io::{self, ErrorKind, Read, Write};

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The introduction, and its answer.
    Hello,
    /// Bytes for [`receive`](super::Collective::receive).
    Data,
    /// The process is alive.
    Beat,
    /// A process has failed: its rank, then the reason.
    Abort,
    /// The process ends in good order.
    Bye,
}

const KINDS: [Kind; 5] = [Kind::Hello, Kind::Data, Kind::Beat, Kind::Abort, Kind::Bye];

/// Frames up to this length are written in one piece.
const SHORT: usize = 1 << 16;

pub(super) fn write(stream: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let mut head = vec![kind as u8];
    head.extend((bytes.len() as u64).to_le_bytes());
    if bytes.len() <= SHORT {
        head.extend(bytes);
        return stream.write_all(&head);
    }
    stream.write_all(&head)?;
    stream.write_all(bytes)
}

/// The next frame, of at most `most` bytes; `None` at the end of the stream.
pub(super) fn read(stream: &mut impl Read, most: u64) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut head = [0; 9];
    if stream.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..])?;
    let [kind, length @ ..] = head;
    let length = u64::from_le_bytes(length);
    let kind = KINDS.get(usize::from(kind)).filter(|_| length <= most);
    let Some(kind) = kind else {
        return Err(io::Error::new(ErrorKind::InvalidData, "these bytes are no frame"));
    };
    // Memory is taken as bytes come, not as a length says.
    let mut bytes = Vec::with_capacity(length.min(1 << 24) as usize);
    stream.take(length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok(Some((*kind, bytes))),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_broken_ones_are_refused() {
        let mut stream = Vec::new();
        let long = vec![7; SHORT + 1];
        for (kind, bytes) in [(Kind::Data, &long[..]), (Kind::Beat, &[]), (Kind::Abort, b"why")] {
            write(&mut stream, kind, bytes).expect("written");
        }
        let mut rest = stream.as_slice();
        assert_eq!(read(&mut rest, u64::MAX).expect("a frame"), Some((Kind::Data, long)));
        assert_eq!(read(&mut rest, 0).expect("a frame"), Some((Kind::Beat, Vec::new())));
        assert_eq!(read(&mut rest, 3).expect("a frame"), Some((Kind::Abort, b"why".to_vec())));
        assert_eq!(read(&mut rest, 3).expect("the end"), None);
        for cut in [1, 5, 9, 100] {
            assert_eq!(read(&mut &stream[..cut], u64::MAX).expect_err("cut").kind(), ErrorKind::UnexpectedEof);
        }
        assert_eq!(read(&mut stream.as_slice(), 10).expect_err("too long").kind(), ErrorKind::InvalidData);
        assert_eq!(read(&mut b"GET / HTTP".as_slice(), 10).expect_err("foreign").kind(), ErrorKind::InvalidData);
    }
}
