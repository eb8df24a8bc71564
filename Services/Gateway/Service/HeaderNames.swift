import Hummingbird

/// Names of header fields that Hummingbird has no constant for.
typealias HeaderName = HTTPFields.Element.Name

extension HTTPFields {
    /// The value of the field `name`; nil when it is absent or `name` is none.
    func value(_ name: String) -> String? { HeaderName(name).flatMap { self[$0] } }

    /// Sets the field `name`, a valid one.
    mutating func set(_ name: String, to value: String) {
        if let name = HeaderName(name) { self[name] = value }
    }
}
