import Failure
import Hummingbird
import Request
import Tensor
import Wire

/// Finds the uploaded noise that a request names.
struct InitialLatents: Sendable {
    let service: any JobService
    let traits: ModelTraits

    /// The reference for `draft.initialLatents`, or nil where the request names none.
    ///
    /// The blob is read once here: what is not there, or has another size than the request needs, is refused with
    /// `init_latents_unknown` before there is a job.
    func reference(_ draft: RequestDraft, for request: GenerationRequest) async throws(HTTPFailure) -> TensorRef? {
        guard let id = draft.initialLatents else { return nil }
        guard let digest = Digest(hexadecimal: id) else { throw unknown(id) }
        let shape = traits.latentShape(for: request)
        let ref = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.stored(digest, dtype: .float32, shape: shape)
        }
        do throws(Failure) {
            _ = try await service.bytes(of: ref)
        } catch {
            guard error.code == "input_missing" || error.code == "digest_mismatch" else { throw HTTPFailure(error) }
            throw unknown(id)
        }
        return ref
    }

    private func unknown(_ id: String) -> HTTPFailure {
        HTTPFailure(
            .badRequest,
            Failure(
                "init_latents_unknown", "No stored latents of the right size have the id \"\(id.prefix(80))\".",
                field: "init_latents",
                remedy: "Upload them with POST /v1/tensors; the shape is [1, latent frames, channels, height, width]."))
    }
}
