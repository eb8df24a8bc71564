import Failure
import Foundation
import FoundationNetworking

/// Reads a job's server-sent events. A broken stream is bridged by asking for the status and connecting again, so a
/// restarted gateway does not end a watch.
enum EventStream {
    private static let reconnectDelay = Duration.milliseconds(500)
    private static let failuresBeforeGivingUp = 20

    static func statuses(
        request: URLRequest, poll: @escaping @Sendable () async throws(Failure) -> VideoStatus
    ) -> AsyncThrowingStream<VideoStatus, any Error> {
        AsyncThrowingStream { continuation in
            let task = Task {
                var failures = 0
                while !Task.isCancelled {
                    for await status in events(request) as AsyncStream<VideoStatus> {
                        failures = 0
                        continuation.yield(status)
                        if status.isTerminal { return continuation.finish() }
                    }
                    do throws(Failure) {
                        let status = try await poll()
                        continuation.yield(status)
                        if status.isTerminal { return continuation.finish() }
                    } catch {
                        failures += 1
                        if error.code != "server_unreachable" || failures >= failuresBeforeGivingUp {
                            return continuation.finish(throwing: error)
                        }
                    }
                    try? await Task.sleep(for: reconnectDelay)
                }
                continuation.finish()
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }

    /// Pictures of a running job, until the stream ends for whatever reason.
    static func pictures(request: URLRequest) -> AsyncStream<PreviewFiles.Picture> { events(request) }

    /// One connection's events, those that are no `Event` left out, ending when it closes for whatever reason.
    private static func events<Event: Decodable & Sendable>(_ request: URLRequest) -> AsyncStream<Event> {
        AsyncStream { continuation in
            let receiver = EventReceiver(continuation: continuation)
            let session = URLSession(configuration: .ephemeral, delegate: receiver, delegateQueue: nil)
            let task = session.dataTask(with: request)
            continuation.onTermination = { _ in
                task.cancel()
                session.invalidateAndCancel()
            }
            task.resume()
        }
    }
}

/// Splits the body into events and decodes the `data:` lines.
///
/// `@unchecked Sendable`: URLSession calls its delegate on one serial queue only, and nothing else touches `buffer`.
private final class EventReceiver<Event: Decodable & Sendable>: NSObject, URLSessionDataDelegate, @unchecked Sendable {
    private let continuation: AsyncStream<Event>.Continuation
    private var buffer = ServerSentEvents()

    init(continuation: AsyncStream<Event>.Continuation) { self.continuation = continuation }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        for text in buffer.append(data) {
            if let event = try? JSONDecoder().decode(Event.self, from: Data(text.utf8)) {
                continuation.yield(event)
            }
        }
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        continuation.finish()
    }
}

/// Collects bytes of a `text/event-stream` into the data of whole events (WHATWG HTML §9.2).
package struct ServerSentEvents: Sendable {
    private var pending: [UInt8] = []
    private var data: [String] = []

    package init() {}

    /// The data of the events that `bytes` complete.
    package mutating func append(_ bytes: some Sequence<UInt8>) -> [String] {
        var events: [String] = []
        for byte in bytes {
            guard byte == UInt8(ascii: "\n") else {
                pending.append(byte)
                continue
            }
            if pending.last == UInt8(ascii: "\r") { pending.removeLast() }
            let line = String(decoding: pending, as: UTF8.self)
            pending.removeAll(keepingCapacity: true)
            if line.isEmpty {
                if !data.isEmpty { events.append(data.joined(separator: "\n")) }
                data.removeAll()
            } else if line.hasPrefix("data:") {
                let value = line.dropFirst("data:".count)
                data.append(String(value.first == " " ? value.dropFirst() : value))
            }
        }
        return events
    }
}
