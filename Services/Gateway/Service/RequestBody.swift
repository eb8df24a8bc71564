import Failure
import Hummingbird
import NIOCore

/// Bodies of requests, read whole.
enum RequestBody {
    /// The body's bytes; more than `limit` of them are refused with `tooLarge` and 413.
    static func bytes(
        of request: Hummingbird.Request, limit: Int, tooLarge: @autoclosure () -> Failure
    ) async throws -> [UInt8] {
        do {
            return Array(buffer: try await request.body.collect(upTo: limit))
        } catch is NIOTooManyBytesError {
            throw HTTPFailure(.contentTooLarge, tooLarge())
        } catch {
            throw HTTPFailure.brokenBody(error)
        }
    }
}
