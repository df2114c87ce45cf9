//! Publish frames, from their text to an encoded block: the frame and its envelope parsed, the grant asked, the envelope
//! completed, its key made, and 32 at a time encoded. The log between the two halves is left out: it is the broker's.

use crate::{envelope, node, token};
use anabranch_gateway::connection::session::{Action, Moment, Session};
use anabranch_gateway::hub::block::Block;
use anabranch_gateway::log::{AppendError, Record};
use anabranch_gateway::node::Node;
use anabranch_protocol::client_frame::{ClientFrame, Hello};
use anabranch_protocol::cursor::{Cursor, Fingerprint, Offset, Position};

const BLOCKS: u64 = 100;
const FRAMES: u64 = 32;

pub fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _context = runtime.enter();
    let node = node(1 << 20);
    let head = Cursor::beginning(node.log.id());
    let mut session = Session::new(0, &node.rules);
    let mut actions = Vec::new();
    let hello = Hello {
        token: token().into(),
        client_id: "counted".into(),
        sdk: "none".into(),
        cursor: None,
        subscriptions: Vec::new(),
    };
    let moment = Moment { now: 1, unix_ms: node.clock.unix_ms(), head: &head };
    session.frame(&ClientFrame::Hello(hello).to_json(), &moment, &node.rules, &*node, &mut actions);
    assert!(session.is_open(), "{actions:?}");
    actions.clear();

    let mut before = head.clone();
    let mut bytes = 0;
    for block in 0..BLOCKS {
        let first = 1_000_000 + block * FRAMES;
        let texts: Vec<String> = (0..FRAMES).map(|n| text(first + n)).collect();
        let block = counted(&mut session, &node, &moment, &texts, &mut actions, before.clone(), first);
        assert_eq!(block.len() as u64, FRAMES);
        before = block.cursor_before(block.len());
        bytes += block.end(block.len() - 1);
        // The log has confirmed them; how is not this path's business.
        for n in 0..FRAMES {
            let result = Err(AppendError::Closed);
            session.appended(n.to_string().into(), result, &mut actions);
        }
        actions.clear();
    }
    println!("publish: {} frames, {bytes} bytes encoded", BLOCKS * FRAMES);
}

/// A publish frame, as clients send it.
fn text(number: u64) -> String {
    format!(r#"{{"type":"publish","envelope":{}}}"#, envelope(number))
}

/// Some frames that came, and the block that becomes of them.
#[inline(never)]
fn counted(
    session: &mut Session,
    node: &Node,
    moment: &Moment<'_>,
    texts: &[String],
    actions: &mut Vec<Action>,
    before: Cursor,
    first: u64,
) -> Block {
    for text in texts {
        session.frame(text, moment, &node.rules, node, actions);
    }
    let record = |(offset, action)| match action {
        Action::Append { record, .. } => Record {
            position: Position {
                partition: 0,
                offset: Offset(offset),
                fingerprint: Some(Fingerprint(0x00c0_ffee)),
            },
            time: 0,
            topic: record.topic.as_str().into(),
            key: record.key,
            envelope: record.envelope,
        },
        other => panic!("not published: {other:?}"),
    };
    let records: Vec<Record> = (first..).zip(actions.drain(..)).map(record).collect();
    Block::encode(before, &records)
}
