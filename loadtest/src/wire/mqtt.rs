//! As much of MQTT 3.1.1 as a subscriber and a publisher at QoS 0 need.

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    remaining(out, body.len());
    out.extend_from_slice(body);
}

fn remaining(out: &mut Vec<u8>, mut len: usize) {
    while len > 0x7f {
        out.push(0x80 | (len & 0x7f) as u8);
        len >>= 7;
    }
    out.push(len as u8);
}

/// What a client says once it is connected: CONNECT with a clean session and no keep-alive, then SUBSCRIBE or PINGREQ.
pub fn subscribe(client: &str, filter: Option<&str>) -> Vec<u8> {
    let (mut out, mut body) = (Vec::new(), Vec::new());
    text(&mut body, "MQTT");
    body.extend_from_slice(&[4, 2, 0, 0]);
    text(&mut body, client);
    packet(&mut out, 0x10, &body);
    match filter {
        Some(filter) => {
            let mut body = vec![0, 1];
            text(&mut body, filter);
            body.push(0);
            packet(&mut out, 0x82, &body);
        }
        None => packet(&mut out, 0xc0, &[]),
    }
    out
}

/// Appends what stands before an envelope that is published.
pub fn publish(out: &mut Vec<u8>, topic: &str, len: usize) {
    out.push(0x30);
    remaining(out, 2 + topic.len() + len);
    text(out, topic);
}

/// Bytes before and after the envelope of a delivery.
pub fn around(topic: &str, len: usize) -> (usize, usize) {
    let mut out = Vec::new();
    publish(&mut out, topic, len);
    (out.len(), 0)
}
