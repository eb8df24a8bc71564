import Failure
import FoundationEssentials
import Hummingbird
import NIOCore
import Tensor
import Wire

/// Tensors for people who compare them: `POST /v1/tensors` takes noise to start from, and
/// `GET /v1/videos/{id}/tensors/{name}` gives what a job has stored, both as safetensors.
struct TensorRoutes: Sendable {
    /// Float32 latents of the largest request, with room to spare.
    static let limitBytes = 256 * 1024 * 1024

    let service: any JobService

    func add(to router: Router<BasicRequestContext>) {
        router.post("/v1/tensors") { request, _ in try await upload(request) }
        router.get("/v1/videos/:id/tensors/:name") { _, context in try await download(context) }
    }

    private struct Stored: Encodable {
        let id: String
        let object = "tensor"
        let shape: [Int]
    }

    /// Stores the file's one tensor as float32; the id goes into a request's `init_latents`.
    private func upload(_ request: Hummingbird.Request) async throws -> Response {
        let body = try await RequestBody.bytes(
            of: request, limit: Self.limitBytes,
            tooLarge: Failure(
                "body_too_large", "The file exceeds \(Self.limitBytes) bytes.", remedy: "Latents are smaller."))
        let tensor = try HTTPFailure.badRequest { () throws(Failure) in try Self.onlyTensor(body) }
        let ref = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.store(tensor) }
        return JSONAnswer.response(Stored(id: ref.digest.description, shape: ref.shape))
    }

    private static func onlyTensor(_ bytes: [UInt8]) throws(Failure) -> Tensor {
        let file = try SafetensorsFile(bytes: Tensor(bytes: bytes), label: "the uploaded file")
        guard let name = file.names.first, file.names.count == 1 else {
            throw Failure(
                "tensor_ambiguous", "The uploaded file holds \(file.names.count) tensors.", field: "body",
                remedy: "Send a safetensors file with one tensor.")
        }
        let tensor = try file.tensor(name)
        guard tensor.dtype.isFloatingPoint else {
            throw Failure(
                "tensor_not_floating", "\(name) is \(tensor.dtype).", field: name, remedy: "Send F32, F16 or BF16.")
        }
        let values = tensor.converted(to: .float32)
        if let position = values.firstNonFinite() {
            throw Failure("tensor_not_finite", "Element \(position) of \(name) is NaN or infinite.", field: name)
        }
        return values
    }

    /// The output called `task.output` as a safetensors file with the one key `output`.
    private func download(_ context: BasicRequestContext) async throws -> Response {
        let job = try VideoRoutes.job(context)
        let name = context.parameters.get("name") ?? ""
        let status = try await HTTPFailure.fromBroker { () async throws(Failure) in try await service.status(job: job) }
        guard let output = status.outputs.first(where: { $0.name == name }) else {
            let known = status.outputs.map(\.name).joined(separator: ", ")
            throw HTTPFailure(
                .notFound,
                Failure(
                    "tensor_not_found", "The job has stored no \"\(name.prefix(80))\".", field: "name",
                    remedy: known.isEmpty ? "It has stored nothing yet." : "It has stored: \(known)."))
        }
        let bytes = try await HTTPFailure.fromBroker { () async throws(Failure) in
            try await service.bytes(of: output.ref)
        }
        var tensor = Tensor(uninitialized: output.ref.shape, dtype: output.ref.dtype)
        guard bytes.count == tensor.byteCount else {
            throw HTTPFailure(
                .badGateway, Failure("content_short", "The stored tensor is shorter than its description."))
        }
        tensor.withUnsafeMutableBytes { $0.copyBytes(from: bytes) }
        let key = name.split(separator: ".").last.map(String.init) ?? name
        let file = SafetensorsWriter.encode([(key, tensor)])
        let headers: HTTPFields = [
            .contentType: "application/octet-stream",
            .contentDisposition: "attachment; filename=\"\(key).safetensors\"",
        ]
        return Response(
            status: .ok, headers: headers,
            body: ResponseBody(byteBuffer: file.withUnsafeBytes { ByteBuffer(bytes: $0) }))
    }
}
