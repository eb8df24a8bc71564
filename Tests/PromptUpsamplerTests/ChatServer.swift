import Dispatch
import Foundation
import Glibc
import Synchronization

/// An HTTP server on loopback that gives prepared answers, one a request, and keeps what it was asked.
final class ChatServer: Sendable {
    struct Answer: Sendable {
        var status = 200
        var body: String
        var headers = ""

        static func caption(_ text: String) -> Answer {
            Answer(body: #"{"choices":[{"index":0,"message":{"role":"assistant","content":"\#(text)"}}]}"#)
        }
    }

    let port: UInt16
    private let descriptor: Int32
    private let answers: Mutex<[Answer]>
    private let received = Mutex<[String]>([])

    init(_ answers: [Answer]) {
        self.answers = Mutex(answers)
        (descriptor, port) = listenOnLoopback()
        DispatchQueue(label: "chat server").async { [self] in serve() }
    }

    var baseURL: String { "http://127.0.0.1:\(port)/v1" }

    /// Head and body of every request so far.
    var requests: [String] { received.withLock { $0 } }

    func stop() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    private func serve() {
        while true {
            let connection = accept(descriptor, nil, nil)
            guard connection >= 0 else { break }
            let request = Self.read(connection)
            received.withLock { $0.append(request) }
            let answer = answers.withLock { $0.isEmpty ? Answer(status: 500, body: "") : $0.removeFirst() }
            let text =
                "HTTP/1.1 \(answer.status) Answer\r\nContent-Type: application/json\r\n\(answer.headers)"
                + "Content-Length: \(answer.body.utf8.count)\r\nConnection: close\r\n\r\n\(answer.body)"
            let bytes = Array(text.utf8)
            _ = bytes.withUnsafeBytes { send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            close(connection)
        }
        close(descriptor)
    }

    /// One request: the head, and as much body as Content-Length announces.
    private static func read(_ connection: Int32) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(connection, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            bytes += buffer[..<count]
            let text = String(decoding: bytes, as: UTF8.self)
            guard let end = text.range(of: "\r\n\r\n") else { continue }
            let announced = text[..<end.lowerBound].split(separator: "\r\n")
                .first { $0.lowercased().hasPrefix("content-length:") }
                .flatMap { Int($0.split(separator: ":")[1].filter { $0.isNumber }) }
            if text[end.upperBound...].utf8.count >= announced ?? 0 { break }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// A socket that listens on a free port of 127.0.0.1.
func listenOnLoopback() -> (descriptor: Int32, port: UInt16) {
    let listening = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
            bind(listening, generic, length) == 0 && listen(listening, 8) == 0
                && getsockname(listening, generic, &length) == 0
        }
    }
    precondition(bound, "cannot listen on loopback")
    return (listening, UInt16(bigEndian: address.sin_port))
}
