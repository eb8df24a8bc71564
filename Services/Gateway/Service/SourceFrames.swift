import Dispatch
import Failure
import Hummingbird
import Media
import Request
import Tensor
import Wire

/// The picture or clip that a request begins with: found, decoded, brought to the clip's size and stored.
///
/// Files are decoded one at a time on a queue of their own, so that a large one takes neither the memory of several
/// nor the threads that answer others.
struct SourceFrames: Sendable {
    let service: any JobService
    private let queue = DispatchQueue(label: "source-frames")

    init(service: any JobService) { self.service = service }

    /// What a request begins with, decoded.
    struct Source: Sendable {
        /// `[T, H, W, 3]` uint8; one frame of a picture.
        let frames: Tensor
        /// What was changed or missing and may surprise.
        let notes: [String]
        /// The file, by its digest.
        let input: RequestInput
    }

    /// What `draft` begins with; nil for a prompt alone.
    ///
    /// Fails with `media_unknown` for an id that nothing is stored under, and with the codes of `InputImage` and
    /// `InputVideo`.
    func source(of draft: RequestDraft, as kind: Conditioning) async throws(HTTPFailure) -> Source? {
        guard kind != .text, let bytes = try await bytes(of: draft) else { return nil }
        let wanted = max(1, draft.numFrames ?? RequestLimits.frames)
        let input = RequestInput(
            field: kind == .image ? "image" : kind == .control ? "control_video" : "video",
            file: Digest.of(bytes).description, sourceFramesPerSecond: draft.sourceFramesPerSecond)
        let rate = draft.sourceFramesPerSecond.flatMap { FrameRate(numerator: $0) }
        return try await onQueue { () throws(Failure) in
            guard kind == .image else {
                let video = try InputVideo(file: Tensor(bytes: bytes), frames: wanted, rate: rate)
                return Source(frames: video.frames, notes: video.notes, input: input)
            }
            let image = try InputImage(bytes: bytes)
            return Source(frames: image.pixels.reshaped([1] + image.pixels.shape), notes: image.notes, input: input)
        }
    }

    /// The frames that `request` uses, at its size, in the store.
    func stored(_ source: Source, for request: GenerationRequest) async throws(HTTPFailure) -> TensorRef {
        let count = request.conditioning == .image ? 1 : request.numFrames
        let fit = ImageFit(rawValue: (request.fit ?? .stretch).rawValue) ?? .stretch
        let pixels = try await onQueue { () throws(Failure) in
            try fit.fitted(source.frames.rows(0..<count), width: request.width, height: request.height)
        }
        return try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.store(pixels) }
    }

    private func bytes(of draft: RequestDraft) async throws(HTTPFailure) -> [UInt8]? {
        if let attachment = draft.attachment, attachment.field != "caption_of" { return attachment.bytes }
        guard let id = draft.image ?? draft.video ?? draft.controlVideo else { return nil }
        return try await media(id, field: draft.image != nil ? "image" : draft.video != nil ? "video" : "control_video")
    }

    /// The bytes of an uploaded file that `field` names; `media_unknown`.
    func media(_ id: String, field: String) async throws(HTTPFailure) -> [UInt8] {
        let unknown = HTTPFailure(
            .badRequest,
            Failure(
                "media_unknown", "Nothing is stored under the id \"\(id.prefix(80))\".", field: field,
                remedy: "Upload the file with POST /v1/media and name the id that it answers."))
        guard let media = MediaID(id) else { throw unknown }
        let ref = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.stored(media.digest, dtype: .uint8, shape: [media.count])
        }
        do throws(Failure) {
            return try await service.bytes(of: ref)
        } catch {
            guard error.code == "input_missing" || error.code == "digest_mismatch" else { throw HTTPFailure(error) }
            throw unknown
        }
    }

    func onQueue<Value: Sendable>(
        _ work: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(HTTPFailure) -> Value {
        let result: Result<Value, Failure> = await withCheckedContinuation { continuation in
            queue.async {
                do throws(Failure) {
                    continuation.resume(returning: .success(try work()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try HTTPFailure.badRequest { () throws(Failure) in try result.get() }
    }
}
