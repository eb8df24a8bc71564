import Failure
import FoundationEssentials
import Hummingbird
import Request
import Wire

/// `GET /v1/videos/{id}/previews`: small pictures of a running denoising as Server-Sent Events.
///
/// Each is an event `preview` with the step and a JPEG in Base64; the event `end` comes when the job is over, and the
/// stream ends. Pictures are made only while somebody reads such a stream, and those that come too late are left out.
struct PreviewStream: Sendable {
    let service: any JobService
    let traits: ModelTraits
    let keepAlive: Duration

    private enum Item: Sendable {
        case preview(Preview)
        case keepAlive
        case end(JobStatus)
        case failure(Failure)
    }

    func add(to router: Router<BasicRequestContext>) {
        router.get("/v1/videos/:id/previews") { _, context in try await previews(context) }
    }

    /// 409 where the model's colours are not known; 204 for a job that is over, which tells a browser not to come back.
    private func previews(_ context: BasicRequestContext) async throws -> Response {
        let job = try VideoRoutes.job(context)
        guard traits.latentColors != nil else {
            throw HTTPFailure(
                .conflict,
                Failure(
                    "previews_unavailable", "\(traits.name) does not say which colours its latents have.",
                    field: "model", remedy: "Let zoetrope models fit-preview write them into its zoetrope.json."))
        }
        let now = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.status(job: job) }
        guard !now.state.isTerminal else { return Response(status: .noContent) }
        let changes = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.watch(job: job) }
        let pictures = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.previews(job: job)
        }
        let body = ResponseBody { writer in
            try await write(pictures, changes, to: &writer)
            try await writer.finish(nil)
        }
        return Response(
            status: .ok, headers: [.contentType: "text/event-stream", .cacheControl: "no-store"], body: body)
    }

    private func write(
        _ pictures: AsyncThrowingStream<Preview, any Error>, _ changes: AsyncThrowingStream<JobStatus, any Error>,
        to writer: inout any ResponseBodyWriter
    ) async throws {
        let (items, continuation) = AsyncStream<Item>.makeStream(bufferingPolicy: .bufferingNewest(8))
        let feeds = Task {
            await EventFeed.run(
                into: continuation, every: keepAlive, comment: .keepAlive, failure: Item.failure,
                sources: [
                    { for try await preview in pictures { continuation.yield(.preview(preview)) } },
                    {
                        for try await status in changes where status.state.isTerminal {
                            continuation.yield(.end(status))
                        }
                    },
                ])
        }
        defer { feeds.cancel() }
        try await writer.write(ByteBuffer(string: "retry: 2000\n\n"))
        for await item in items {
            switch item {
            case .keepAlive: try await writer.write(ByteBuffer(string: ": keep-alive\n\n"))
            case .preview(let preview):
                try await writer.write(EventStream.event("preview", id: nil, PreviewObject(preview)))
            case .failure(let failure):
                return try await writer.write(EventStream.event("error", id: nil, EventStream.EventError(failure)))
            case .end(let status):
                return try await writer.write(EventStream.event("end", id: nil, EndObject(status)))
            }
        }
    }

    private struct PreviewObject: Encodable {
        let step: UInt32
        let total: UInt32
        let width: UInt32
        let height: UInt32
        let mimeType = "image/jpeg"
        /// Base64.
        let data: String

        init(_ preview: Preview) {
            step = preview.step
            total = preview.totalSteps
            width = preview.width
            height = preview.height
            data = Data(preview.jpeg).base64EncodedString()
        }

        enum CodingKeys: String, CodingKey {
            case step, total, width, height, data
            case mimeType = "mime_type"
        }
    }

    private struct EndObject: Encodable {
        let status: String

        init(_ status: JobStatus) { self.status = VideoObject(status).status }
    }
}
