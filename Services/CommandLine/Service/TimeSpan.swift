import ArgumentParser

/// A length of time as people write it: `90s`, `10m`, `1h30m`, `2d`, or a plain number of seconds.
package struct TimeSpan: ExpressibleByArgument, Sendable, Hashable {
    package let seconds: Double

    private static let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]

    package init?(argument: String) {
        if let plain = Double(argument) {
            guard plain > 0, plain.isFinite else { return nil }
            seconds = plain
            return
        }
        var sum = 0.0
        var number = ""
        for character in argument {
            if let unit = Self.units[character] {
                guard let value = Double(number), value >= 0 else { return nil }
                sum += value * unit
                number = ""
            } else {
                guard character.isASCII, character.isNumber || character == "." else { return nil }
                number.append(character)
            }
        }
        guard number.isEmpty, sum > 0, sum.isFinite else { return nil }
        seconds = sum
    }
}
