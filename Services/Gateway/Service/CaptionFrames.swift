import Failure
import Hummingbird
import Media
import Request
import Tensor
import Wire

extension SourceFrames {
    /// The clip that the prompt is to be written of: some of its frames, small enough to be sent on, in the store. Nil
    /// for a request whose prompt is there.
    ///
    /// Fails with `media_unknown` and the codes of `InputVideo`.
    func caption(of draft: RequestDraft, for request: GenerationRequest) async throws(HTTPFailure) -> JobGraph.Caption?
    {
        guard request.isCaptioned == true else { return nil }
        var bytes = draft.attachment?.field == "caption_of" ? draft.attachment?.bytes : nil
        if let id = draft.captionOf { bytes = try await media(id, field: "caption_of") }
        guard let bytes else { return nil }
        let frames = try await onQueue { () throws(Failure) in try Self.captionFrames(bytes) }
        let ref = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.store(frames) }
        return JobGraph.Caption(frames: ref, file: Digest.of(bytes).description)
    }

    /// The clip's beginning (twelve seconds at four frames a second) is read, and of that a few frames are kept.
    private static func captionFrames(_ bytes: [UInt8]) throws(Failure) -> Tensor {
        let clip = try InputVideo(file: Tensor(bytes: bytes), frames: 48, rate: FrameRate(numerator: 4)).frames
        let count = min(clip.shape[0], RequestLimits.captionFrames)
        let longer = Double(max(clip.shape[1], clip.shape[2]))
        let scale = min(1, Double(RequestLimits.captionSide) / longer)
        let size = [clip.shape[1], clip.shape[2]].map { max(1, Int(Double($0) * scale)) }
        var kept: [Tensor] = []
        for place in 0..<count {
            let index = place * (clip.shape[0] - 1) / max(1, count - 1)
            let picture = clip.rows(index..<index + 1).reshaped(Array(clip.shape.dropFirst()))
            let small = try ContactSheet.resized(picture, width: size[1], height: size[0])
            kept.append(small.reshaped([1] + small.shape))
        }
        return Tensor.concatenated(kept)
    }
}
