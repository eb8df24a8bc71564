import Checkpoint
import Failure
import Hummingbird

/// `GET /v1/loras`: the adapters that requests may name.
struct LoraRoutes: Sendable {
    let shelf: AdapterShelf

    func add(to router: Router<BasicRequestContext>) {
        router.get("/v1/loras") { _, _ in try await list() }
    }

    private struct Page: Encodable {
        struct Entry: Encodable {
            let name: String
            /// `diffusers`, `peft`, `kohya` or `sat`.
            let format: String
            let layers: Int
            let rank: Int
            /// The scales that the file implies; requests multiply them by their weight.
            let scales: [Double]
            let bytes: Int
            let digest: String
            let warnings: [String]
        }

        struct Problem: Encodable {
            let name: String
            let code: String
            let message: String
        }

        let object = "list"
        let data: [Entry]
        /// Files of the folder that cannot be used, and why.
        let unusable: [Problem]
    }

    private func list() async throws -> Response {
        let found = try await shelf.entries()
        return JSONAnswer.response(
            Page(
                data: found.usable.map {
                    Page.Entry(
                        name: $0.name, format: $0.format.rawValue, layers: $0.layerCount, rank: $0.rank,
                        scales: $0.scales, bytes: $0.byteCount, digest: $0.digest, warnings: $0.warnings)
                },
                unusable: found.failures.map {
                    Page.Problem(name: $0.name, code: $0.failure.code, message: $0.failure.message)
                }))
    }
}
