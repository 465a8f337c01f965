"""The words that samples are made of. Mail domains are those set aside for examples (RFC 2606), telephone numbers those for fiction."""

# As written, and as an e-mail address has it.
GIVEN_NAMES = (
    ("Ada", "ada"), ("Agnieszka", "agnieszka"), ("Aisha", "aisha"), ("Alejandro", "alejandro"), ("Amara", "amara"),
    ("Anaïs", "anais"), ("Anders", "anders"), ("Anneliese", "anneliese"), ("Arjun", "arjun"), ("Astrid", "astrid"),
    ("Beatriz", "beatriz"), ("Bjørn", "bjorn"), ("Caitlin", "caitlin"), ("Carmen", "carmen"), ("Chidi", "chidi"),
    ("Clara", "clara"), ("Daniel", "daniel"), ("Dmitri", "dmitri"), ("Elena", "elena"), ("Elif", "elif"), ("Emre", "emre"),
    ("Fatima", "fatima"), ("Felix", "felix"), ("François", "francois"), ("Giulia", "giulia"), ("Grace", "grace"),
    ("Hana", "hana"), ("Hugo", "hugo"), ("Ines", "ines"), ("Ingrid", "ingrid"), ("Jakub", "jakub"), ("Jamal", "jamal"),
    ("João", "joao"), ("Jürgen", "juergen"), ("Kaito", "kaito"), ("Katharina", "katharina"), ("Kwame", "kwame"),
    ("Lars", "lars"), ("Leila", "leila"), ("Liam", "liam"), ("Łukasz", "lukasz"), ("Mateo", "mateo"), ("Mei", "mei"),
    ("Milan", "milan"), ("Nadia", "nadia"), ("Ngozi", "ngozi"), ("Niamh", "niamh"), ("Noor", "noor"), ("Olga", "olga"),
    ("Oscar", "oscar"), ("Priya", "priya"), ("Rafael", "rafael"), ("Renée", "renee"), ("Rosa", "rosa"), ("Samir", "samir"),
    ("Sofía", "sofia"), ("Søren", "soren"), ("Tariq", "tariq"), ("Tomoko", "tomoko"), ("Valentina", "valentina"),
    ("Wei", "wei"), ("Yusuf", "yusuf"), ("Zofia", "zofia"), ("Zoë", "zoe"),
)  # fmt: skip
FAMILY_NAMES = (
    ("Adeyemi", "adeyemi"), ("Andersson", "andersson"), ("Baker", "baker"), ("Becker", "becker"), ("Berg", "berg"),
    ("Bianchi", "bianchi"), ("Brennan", "brennan"), ("Castillo", "castillo"), ("Chen", "chen"), ("Costa", "costa"),
    ("Dąbrowska", "dabrowska"), ("Delgado", "delgado"), ("Diallo", "diallo"), ("Dubois", "dubois"), ("Eriksen", "eriksen"),
    ("Farah", "farah"), ("Fernández", "fernandez"), ("Fischer", "fischer"), ("Gallo", "gallo"), ("Greene", "greene"),
    ("Haddad", "haddad"), ("Hansen", "hansen"), ("Horváth", "horvath"), ("Hughes", "hughes"), ("Ito", "ito"),
    ("Ivanova", "ivanova"), ("Jensen", "jensen"), ("Kaya", "kaya"), ("Keller", "keller"), ("Kim", "kim"), ("Kovač", "kovac"),
    ("Kumar", "kumar"), ("Laurent", "laurent"), ("Lindqvist", "lindqvist"), ("Mbeki", "mbeki"), ("McCarthy", "mccarthy"),
    ("Mendes", "mendes"), ("Müller", "mueller"), ("Nakamura", "nakamura"), ("Nguyen", "nguyen"), ("Nowak", "nowak"),
    ("Núñez", "nunez"), ("O'Brien", "obrien"), ("Okafor", "okafor"), ("Olsen", "olsen"), ("Osei", "osei"),
    ("Papadaki", "papadaki"), ("Patel", "patel"), ("Petrov", "petrov"), ("Rossi", "rossi"), ("Roux", "roux"),
    ("Santos", "santos"), ("Schneider", "schneider"), ("Sharma", "sharma"), ("Silva", "silva"), ("Smith", "smith"),
    ("Tanaka", "tanaka"), ("Türk", "tuerk"), ("Vargas", "vargas"), ("Visser", "visser"), ("Walsh", "walsh"),
    ("Weiß", "weiss"), ("Yilmaz", "yilmaz"), ("Zhang", "zhang"),
)  # fmt: skip
MAIL_DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com", "post.example.org", "studio.example.net")
ROLES = ("reader", "reader", "reader", "reader", "user", "user", "author", "author", "editor", "moderator", "admin")

# City, state, code and country belong together; the street is any of that country's.
PLACES = (
    ("Lisbon", "Lisboa", "1100-148", "Portugal"), ("Porto", "Porto", "4000-322", "Portugal"),
    ("Hamburg", "Hamburg", "20095", "Germany"), ("München", "Bavaria", "80331", "Germany"),
    ("Leipzig", "Saxony", "04109", "Germany"), ("Kraków", "Lesser Poland", "31-042", "Poland"),
    ("Gdańsk", "Pomerania", "80-831", "Poland"), ("Lyon", "Auvergne-Rhône-Alpes", "69002", "France"),
    ("Nantes", "Pays de la Loire", "44000", "France"), ("Boston", "MA", "02108", "United States"),
    ("Portland", "OR", "97205", "United States"), ("Austin", "TX", "78701", "United States"),
    ("Toronto", "ON", "M5H 2N2", "Canada"), ("Québec", "QC", "G1R 4S9", "Canada"),
    ("Leeds", "England", "LS1 4DY", "United Kingdom"), ("Glasgow", "Scotland", "G2 1DU", "United Kingdom"),
    ("Osaka", "Osaka", "530-0001", "Japan"), ("Bengaluru", "Karnataka", "560001", "India"),
    ("Nairobi", "Nairobi", "00100", "Kenya"), ("São Paulo", "SP", "01310-100", "Brazil"),
    ("Bogotá", "Cundinamarca", "110111", "Colombia"), ("Malmö", "Skåne", "211 22", "Sweden"),
)  # fmt: skip
STREETS = (
    "Mill Lane", "Station Road", "Church Street", "Harbour View", "Garden Terrace", "Market Square", "Old Bridge Road",
    "Linden Avenue", "River Walk", "Chestnut Hill", "Orchard Close", "Lighthouse Way", "Weaver's Row", "Foundry Street",
    "Canal Side", "Observatory Road",
)  # fmt: skip

SUBJECTS = (
    "the harbour master", "a retired teacher", "our correspondent", "the city council", "a team of botanists",
    "the night ferry", "an apprentice baker", "the local archive", "a choir from the hills", "the new library",
    "a small bakery", "the lighthouse keeper", "a group of students", "the old observatory", "the weekly market",
    "an amateur astronomer", "the river authority", "a violin maker",
)  # fmt: skip
VERBS = (
    "has counted", "describes", "will restore", "quietly replaced", "remembers", "is mapping", "keeps repairing", "opened",
    "has measured", "wants to share", "collected", "is rebuilding", "photographed", "catalogued", "still protects",
    "has translated",
)  # fmt: skip
OBJECTS = (
    "more than forty wooden boats", "the footpaths along the canal", "every bell in the valley",
    "a hundred years of rainfall", "the first printed street map", "an orchard of forgotten apples",
    "the letters of its founders", "a bridge of woven willow", "the clockwork of the town hall",
    "two thousand glass negatives", "recipes from the coast", "the migration of the swifts", "a radio station in a shed",
    "the stones of the northern wall", "a greenhouse full of ferns", "the songs of the salt workers",
)  # fmt: skip
ENDINGS = (
    "in spite of the weather", "with help from the neighbours", "for the third year in a row", "before the winter sets in",
    "and hopes that others will join", "without asking for a single grant", "as the records from 1911 had suggested",
    "while the rest of the town was asleep", "and nobody can quite say why", "to the delight of the children",
    "although the budget was cut twice", "between two tides",
)  # fmt: skip
TITLE_STARTS = (
    "Notes on", "A short history of", "What we learned from", "The return of", "Looking after", "Letters about",
    "In praise of", "How to repair", "The slow life of", "Questions about", "A guide to", "Behind the scenes of",
    "Measuring", "Listening to",
)  # fmt: skip
TITLE_ENDS = (
    "wooden boats", "river bridges", "old apple orchards", "night trains", "town clocks", "public libraries", "stone walls",
    "rain gauges", "street markets", "hand-drawn maps", "glass negatives", "lighthouse keepers", "mountain choirs", "swifts",
    "printing presses", "salt gardens", "greenhouses", "ferry timetables",
)  # fmt: skip
TAGS = (
    "archives", "boats", "city", "craft", "food", "gardens", "history", "maps", "music", "nature", "repair", "science",
    "travel", "weather",
)  # fmt: skip
REMARKS = (
    "Thank you for this, it made my morning.", "I grew up two streets away and never knew.",
    "Is there a map of all the places you mention?", "The second paragraph should be read aloud.",
    "My grandfather kept a diary of exactly these years.", "Could you say more about the tools they used?",
    "A small correction: the bridge was finished a year later.", "We tried the recipe, and it works with rye as well.",
    "Lovely photographs. Who took them?", "I would gladly lend a hand next spring.",
    "This is the kind of reporting I subscribe for.", "There was a similar project in our valley.",
    "Please publish the measurements as a table.", "I have doubts about the third source.",
    "It reminded me of the night ferry in the eighties.", "Does anybody know whether the archive is open on Mondays?",
)  # fmt: skip
