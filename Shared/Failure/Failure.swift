/// What went wrong, where, and what to do about it: the one error type that crosses module and process borders.
///
/// `code` is stable and machine-readable (snake_case, listed in docs/errors.md); `message` is for people and names the
/// offending value; `remedy` says what to do. HTTP answers, bus FAIL messages and the CLI print the same three.
package struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
    /// Who may try the work again (bus.md §2.5).
    package enum Retry: UInt32, Sendable, CaseIterable {
        case never = 0
        case sameWorker = 1
        case otherWorker = 2
        case biggerWorker = 3
    }

    package var code: String
    package var message: String
    /// The request field, tensor, file or key concerned.
    package var field: String?
    package var remedy: String?
    package var retry: Retry
    /// When it makes sense to try again; 0 = not known.
    package var retryAfterMilliseconds: UInt32 = 0

    package init(
        _ code: String, _ message: String, field: String? = nil, remedy: String? = nil, retry: Retry = .never
    ) {
        self.code = code
        self.message = message
        self.field = field
        self.remedy = remedy
        self.retry = retry
    }

    package var description: String {
        let place = field.map { " (\($0))" } ?? ""
        let advice = remedy.map { " \($0)" } ?? ""
        return "\(code)\(place): \(message)\(advice)"
    }
}
