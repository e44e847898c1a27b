use super::halves::CAPACITY;
use super::*;
use crate::net::io::ReadInto as _;
use crate::wire::http2::request::Content;
use std::pin::Pin;
use std::task::Poll;
use tokio::io::AsyncWrite as _;

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What is there for the client, taken out.
fn taken(far: &Far) -> Vec<u8> {
    let state = &mut *far.look();
    let bytes = state.down.bytes().to_vec();
    state.down.take(bytes.len());
    Far::make_room(state);
    bytes
}

/// What there is to read: none while nothing is, and nothing at the end.
fn read(near: &mut Near, most: usize) -> Option<Vec<u8>> {
    let mut part = vec![0; most];
    match near.poll_read_into(&mut context(), &mut part) {
        Poll::Ready(n) => {
            part.truncate(n.unwrap());
            Some(part)
        }
        Poll::Pending => None,
    }
}

#[test]
fn a_writer_waits_for_room() {
    let ((mut near, far), mut cx) = (pair(Content::None), context());
    let much = vec![7; CAPACITY + 1];
    assert!(matches!(Pin::new(&mut near).poll_write(&mut cx, &much), Poll::Ready(Ok(CAPACITY))));
    assert!(Pin::new(&mut near).poll_write(&mut cx, b"more").is_pending());
    assert_eq!(taken(&far), much[1..]);
    assert!(matches!(Pin::new(&mut near).poll_write(&mut cx, b"more"), Poll::Ready(Ok(4))));
    assert_eq!(taken(&far), b"more");
}

#[test]
fn parts_are_read_in_order() {
    let (mut near, far) = pair(Content::Length(0));
    let all: Vec<u8> = (0..100_000u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    let mut seen = Vec::new();
    for part in all.chunks(1000) {
        assert!(far.put(part));
        seen.extend(read(&mut near, 700).unwrap());
    }
    while let Some(part) = read(&mut near, 3000) {
        seen.extend(part);
    }
    assert!(seen == all);
}

#[test]
fn a_body_of_unknown_length_is_read_in_chunks() {
    let (mut near, far) = pair(Content::Chunks);
    assert_eq!(read(&mut near, 100), None);
    assert!(far.put(b"hello ") && far.put(b"world"));
    assert_eq!(read(&mut near, 26).unwrap(), b"6\r\nhello \r\n");
    assert_eq!(read(&mut near, 100).unwrap(), b"5\r\nworld\r\n");
    far.finish(b"0\r\nx: y\r\n\r\n".to_vec());
    assert_eq!(read(&mut near, 3).unwrap(), b"0\r\n");
    assert_eq!(read(&mut near, 100).unwrap(), b"x: y\r\n\r\n");
    // The client has not gone: it waits for its answer.
    assert_eq!(read(&mut near, 100), None);
}

#[test]
fn an_end_is_read_after_the_bytes_before_it() {
    let ((mut near, far), mut cx) = (pair(Content::Tunnel), context());
    far.put(b"abc");
    far.close();
    assert_eq!(read(&mut near, 10).unwrap(), b"abc");
    assert_eq!(read(&mut near, 10).unwrap(), b"");
    assert!(matches!(Pin::new(&mut near).poll_write(&mut cx, b"answer"), Poll::Ready(Ok(6))));
    assert!(Pin::new(&mut near).poll_shutdown(&mut cx).is_ready());
    drop(near);
    assert_eq!(taken(&far), b"answer");
    assert!(far.look().down.is_closed() && !far.look().is_served());
}

#[test]
fn what_is_dropped_without_an_end_is_broken() {
    let ((mut near, far), mut cx) = (pair(Content::None), context());
    assert!(Pin::new(&mut near).poll_write(&mut cx, b"half").is_ready());
    drop(near);
    assert!(far.look().down.is_broken());

    let (mut near, far) = pair(Content::Length(9));
    far.put(b"half");
    drop(far);
    assert!(matches!(near.poll_read_into(&mut cx, &mut [0; 10]), Poll::Ready(Err(_))));
    assert!(matches!(Pin::new(&mut near).poll_write(&mut cx, b"x"), Poll::Ready(Err(_))));
}
