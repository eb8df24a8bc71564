import Failure
import Hummingbird
import Logging
import Wire

/// `GET /v1/videos/{id}/events`: the job as Server-Sent Events (WHATWG HTML §9.2).
///
/// Every change is an event `status` whose data is the Video object and whose id is the job's revision; the stream ends
/// after the terminal one. With `Last-Event-ID`, events up to that revision are left out, and a job that is over by then
/// is answered with 204, which tells a browser not to come back. A comment every 15 s keeps proxies from hanging up.
struct EventStream: Sendable {
    let service: any JobService
    let keepAlive: Duration

    private enum Item: Sendable {
        case status(JobStatus)
        case keepAlive
        case failure(Failure)
    }

    func add(to router: Router<BasicRequestContext>) {
        router.get("/v1/videos/:id/events") { request, context in try await events(request, context) }
    }

    private func events(_ request: Hummingbird.Request, _ context: BasicRequestContext) async throws -> Response {
        let job = try VideoRoutes.job(context)
        let seen = lastEventID(request)
        let now = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.status(job: job) }
        if let seen, now.state.isTerminal, now.revision <= seen { return Response(status: .noContent) }
        let changes = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.watch(job: job) }
        let body = ResponseBody { writer in
            try await write(changes, after: seen, to: &writer)
            try await writer.finish(nil)
        }
        return Response(
            status: .ok, headers: [.contentType: "text/event-stream", .cacheControl: "no-store"], body: body)
    }

    private func lastEventID(_ request: Hummingbird.Request) -> UInt64? {
        request.headers.value("Last-Event-ID").flatMap { UInt64($0) }
    }

    /// Writes events until the job is over, the client is gone or the gateway stops.
    private func write(
        _ changes: AsyncThrowingStream<JobStatus, any Error>, after seen: UInt64?,
        to writer: inout any ResponseBodyWriter
    ) async throws {
        // Only the newest status matters to a reader that is slower than the job; one place is for the comment.
        let (items, continuation) = AsyncStream<Item>.makeStream(bufferingPolicy: .bufferingNewest(64))
        let feeds = Task {
            await EventFeed.run(
                into: continuation, every: keepAlive, comment: .keepAlive, failure: Item.failure,
                sources: [{ for try await status in changes { continuation.yield(.status(status)) } }])
        }
        defer { feeds.cancel() }
        try await writer.write(ByteBuffer(string: "retry: 2000\n\n"))
        var newest = seen
        for await item in items {
            switch item {
            case .keepAlive: try await writer.write(ByteBuffer(string: ": keep-alive\n\n"))
            case .failure(let failure):
                try await writer.write(Self.event("error", id: nil, EventError(failure)))
                return
            case .status(let status):
                if let newest, status.revision <= newest { continue }
                newest = status.revision
                try await writer.write(Self.event("status", id: status.revision, VideoObject(status)))
                if status.state.isTerminal { return }
            }
        }
    }

    struct EventError: Encodable {
        let code: String
        let message: String

        init(_ failure: Failure) {
            code = failure.code
            message = failure.message
        }
    }

    static func event(_ name: String, id: UInt64?, _ data: some Encodable) -> ByteBuffer {
        var buffer = ByteBuffer()
        if let id { buffer.writeString("id: \(id)\n") }
        buffer.writeString("event: \(name)\ndata: ")
        // JSON on one line: a line end inside text is written as \n.
        buffer.writeBytes(JSONAnswer.bytes(data) ?? [])
        buffer.writeString("\n\n")
        return buffer
    }
}
