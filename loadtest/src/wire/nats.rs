//! As much of NATS' protocol as a subscriber and a publisher need.

/// What a subscriber says once it is connected.
pub fn subscribe(filter: Option<&str>) -> Vec<u8> {
    let mut text = String::from("CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":false}\r\n");
    if let Some(filter) = filter {
        text += &format!("SUB {} 1\r\n", subject(filter));
    }
    text += "PING\r\n";
    text.into_bytes()
}

/// A topic or filter as NATS writes it.
pub fn subject(filter: &str) -> String {
    filter.replace('/', ".").replace('+', "*").replace('#', ">")
}

/// Appends what stands before an envelope that is published; `\r\n` follows it.
pub fn publish(out: &mut Vec<u8>, topic: &str, len: usize) {
    out.extend_from_slice(format!("PUB {} {len}\r\n", subject(topic)).as_bytes());
}

/// Bytes before and after the envelope of a delivery.
pub fn around(topic: &str, len: usize) -> (usize, usize) {
    (format!("MSG {} 1 {len}\r\n", subject(topic)).len(), 2)
}
