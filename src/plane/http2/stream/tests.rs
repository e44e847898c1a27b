use super::*;
use crate::plane::http2::pipe::{Near, pair};
use crate::wire::http2::hpack::Decoder as Fields;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::AsyncWrite as _;

/// A stream whose client takes so much, and what was said on it.
struct Client {
    near: Option<Near>,
    stream: Stream,
    send: Window,
    frame: usize,
    out: Vec<u8>,
    encoder: Encoder,
    fields: Fields,
}

impl Client {
    fn new(content: Content, window: u32) -> Self {
        let (near, far) = pair(content);
        let (send, answer) = (Window::new(window), Answer::Head(HeadEnd::of_answer()));
        let has_ended = content == Content::None;
        let stream = Stream {
            number: 5,
            far,
            content,
            to_head: false,
            send,
            receive: Window::new(99),
            has_ended,
            is_queued: false,
            answer,
        };
        Self {
            near: Some(near),
            stream,
            send: Window::new(1 << 20),
            frame: 16_384,
            out: Vec::new(),
            encoder: Encoder::default(),
            fields: Fields::default(),
        }
    }

    fn write(&mut self, text: &str) -> &mut Self {
        let near = Pin::new(self.near.as_mut().unwrap());
        let written = near.poll_write(&mut Context::from_waker(Waker::noop()), text.as_bytes());
        assert!(matches!(written, Poll::Ready(Ok(n)) if n == text.len()));
        self
    }

    fn shut(&mut self) -> &mut Self {
        self.near.take().unwrap().shut();
        self
    }

    fn leave(&mut self) -> &mut Self {
        self.near = None;
        self
    }

    fn advance(&mut self) -> Progress {
        let (out, encoder, send) = (&mut self.out, &mut self.encoder, &mut self.send);
        self.stream.advance(&mut Pen { out, encoder, send, frame: self.frame, most: 4096 })
    }

    /// The frames until now, in words.
    fn said(&mut self) -> Vec<String> {
        let (out, mut said) = (std::mem::take(&mut self.out), Vec::new());
        let mut rest = &out[..];
        while let Some((head, after)) = rest.split_first_chunk() {
            let head = Head::read(head);
            let (payload, after) = after.split_at(head.length);
            let mut text = String::from_utf8_lossy(payload).into_owned();
            if head.kind == kind::HEADERS {
                text.clear();
                let take = |field: crate::wire::http2::field::Field<'_>| {
                    text += &String::from_utf8_lossy(&[field.name, b"=", field.value, b" "].concat());
                };
                self.fields.decode(payload, &mut Vec::new(), take).unwrap();
            }
            let end = if head.has(flag::END_STREAM) { "." } else { "" };
            said.push(format!("{}{end}", text.trim_end()));
            assert_eq!((head.stream, head.kind == kind::HEADERS || head.kind == kind::DATA), (5, true));
            rest = after;
        }
        said
    }
}

#[test]
fn a_known_length_ends_with_its_last_byte() {
    let mut client = Client::new(Content::None, 99);
    client.write("HTTP/1.1 200 OK\r\nContent-Le");
    assert_eq!((client.advance(), client.said()), (Progress::Waits, vec![]));
    client.write("ngth: 5\r\n\r\nhel");
    assert_eq!(client.advance(), Progress::Waits);
    assert_eq!(client.said(), [":status=200 content-length=5", "hel"]);
    client.write("lo");
    assert_eq!((client.advance(), client.said()), (Progress::Complete, vec!["lo.".to_owned()]));
}

#[test]
fn chunks_become_few_frames_and_their_trailers_the_end() {
    let mut client = Client::new(Content::None, 99);
    client.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n1\r\n");
    assert_eq!((client.advance(), client.said()), (Progress::Waits, vec![":status=200".into(), "abc".into()]));
    client.write("d\r\n0\r\nX-Sum: 1\r\n\r\n");
    assert_eq!((client.advance(), client.said()), (Progress::Complete, vec!["d".into(), "x-sum=1.".into()]));

    let mut client = Client::new(Content::None, 99);
    client.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
    assert_eq!((client.advance(), client.said()), (Progress::Complete, vec![":status=200".into(), "a.".into()]));

    let mut client = Client::new(Content::None, 99);
    client.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    assert_eq!((client.advance(), client.said()), (Progress::Waits, vec![":status=200".into(), "a".into()]));
    client.write("0\r\n\r\n");
    assert_eq!((client.advance(), client.said()), (Progress::Complete, vec![".".to_owned()]));
}

#[test]
fn nothing_goes_beyond_the_windows() {
    let mut client = Client::new(Content::None, 4);
    client.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_eq!(client.advance(), Progress::StreamFull);
    assert_eq!(client.said(), [":status=200 content-length=10", "0123"]);
    client.stream.send.grow(3).unwrap();
    client.send = Window::new(1);
    assert_eq!((client.advance(), client.said()), (Progress::ConnectionFull, vec!["4".to_owned()]));
    assert_eq!((client.advance(), client.said()), (Progress::ConnectionFull, vec![]));
    client.send = Window::new(100);
    assert_eq!((client.advance(), client.said()), (Progress::StreamFull, vec!["56".to_owned()]));
    client.stream.send.grow(100).unwrap();
    client.frame = 2;
    assert_eq!((client.advance(), client.said()), (Progress::More, vec!["78".to_owned()]), "a turn is one frame");
    assert_eq!((client.advance(), client.said()), (Progress::Complete, vec!["9.".to_owned()]));
    // What is full waits for the client no longer when the answer breaks off.
    let mut client = Client::new(Content::None, 1);
    client.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab");
    assert_eq!(client.advance(), Progress::StreamFull);
    assert_eq!(client.leave().advance(), Progress::Broken);
}

#[test]
fn answers_without_bodies_are_complete_with_their_heads() {
    for head in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n"] {
        let mut client = Client::new(Content::None, 0);
        assert_eq!(client.write(head).advance(), Progress::Complete);
        let said = client.said();
        assert!(said.len() == 1 && said[0].ends_with('.'), "{said:?}");
    }
    let mut client = Client::new(Content::None, 0);
    client.stream.to_head = true;
    assert_eq!(client.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").advance(), Progress::Complete);
    let mut client = Client::new(Content::None, 9);
    client.write("HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.advance(), Progress::Complete);
    assert_eq!(client.said(), [":status=103 link=a", ":status=200 content-length=0."]);
}

#[test]
fn what_the_close_ends_must_be_closed() {
    let until_close = "HTTP/1.1 200 OK\r\n\r\nall";
    let mut client = Client::new(Content::None, 9);
    assert_eq!(client.write(until_close).shut().advance(), Progress::Complete);
    assert_eq!(client.said(), [":status=200", "all."]);
    for broken in [
        until_close,
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nall",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        "HTTP/1.1 200 OK\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut client = Client::new(Content::None, 9);
        assert_eq!(client.write(broken).leave().advance(), Progress::Broken, "{broken:?}");
        assert!(!client.said().iter().any(|said| said.ends_with('.')), "{broken:?}");
    }
    let mut client = Client::new(Content::None, 9);
    client.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nall").shut();
    assert_eq!(client.advance(), Progress::Broken, "shut, and not complete");
}

#[test]
fn a_tunnel_stays_until_both_sides_have_ended() {
    let agree = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nhi";
    let mut client = Client::new(Content::Tunnel, 9);
    assert_eq!(
        (client.write(agree).advance(), client.said()),
        (Progress::Waits, vec![":status=200".into(), "hi".into()])
    );
    let near = client.near.take().unwrap();
    near.shut();
    assert_eq!((client.advance(), client.said()), (Progress::Waits, vec![".".to_owned()]));
    assert_eq!(client.stream.receive(b"more", false), Ok(()));
    drop(near);
    assert_eq!((client.advance(), client.said()), (Progress::Complete, vec![]));
    // Where the app does not agree, there is none.
    let mut client = Client::new(Content::Tunnel, 9);
    client.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(client.advance(), Progress::Complete);
}

#[test]
fn bodies_have_the_length_that_was_told() {
    let sent = |parts: &[(&[u8], bool)]| {
        let mut client = Client::new(Content::Length(5), 9);
        parts.iter().try_for_each(|(data, ends)| client.stream.receive(data, *ends))
    };
    assert_eq!(sent(&[(b"hel", false), (b"lo", true)]), Ok(()));
    assert_eq!(sent(&[(b"hello", false), (b"", true)]), Ok(()));
    assert_eq!(sent(&[(b"hel", true)]), Err(Reason::PROTOCOL_ERROR));
    assert_eq!(sent(&[(b"hel", false), (b"lo!", false)]), Err(Reason::PROTOCOL_ERROR));
}
