#include "eval/ruler/words.h"

#include <sstream>
#include <string_view>

namespace lacake::eval {
namespace {

constexpr std::string_view kNouns =
    "acorn actor airport album alley almond anchor angle ankle antler apple apron arch archer arena armor arrow "
    "artist ashtray atlas attic aunt author autumn avenue bacon badge bagel baker balcony ball balloon bamboo "
    "banana banjo bank banner barber bargain bark barn barrel basement basin basket bat battery beach beacon "
    "bead beam bean bear beard beaver bed bee beetle bell belt bench berry bicycle bird biscuit blade blanket "
    "blossom board boat bolt bone bonnet book boot border bottle boulder bow bowl box boxer bracelet brain "
    "branch brass bread breeze brick bride bridge broom brother brush bucket buckle budget bug bulb bull bumper "
    "bunker burger bus bush butcher butter button cabin cabinet cable cactus cage cake calendar calf camel "
    "camera camp canal candle candy cane cannon canoe canvas canyon cap cape captain car caravan card cargo "
    "carpet carrot cart castle cat cattle cave ceiling cellar cement cereal chain chair chalk channel chapel "
    "chapter charm cheese chef cherry chess chest chicken chimney chin choir church cider cinema circle circus "
    "city clam clarinet clay clerk cliff clock cloth cloud clown club coach coal coast coat cobra cocoa coconut "
    "coffee coin collar college comb comet compass computer concert cook copper coral cord corn corner costume "
    "cottage cotton couch council country cousin cow crab cradle crane crate crayon cream creek cricket crow "
    "crowd crown cruise crystal cube cucumber cup cupboard curtain curve cushion cycle daisy dam dancer daughter "
    "dawn deck deer delta dentist desert desk dessert diamond diary dinner dish ditch doctor dog doll dolphin "
    "donkey door dove dragon drawer dress driver drum duck dune dusk eagle ear earth echo editor eel egg elbow "
    "elephant elevator ember engine envelope eraser escort estate evening exhibit expert eye fabric face factory "
    "falcon family farm farmer faucet feast feather fence fern ferry festival fiddle field fig finger fire fish "
    "flag flame flask flea fleet flock flood floor flour flower flute fog folder foot forest fork fort fossil "
    "fountain fox frame freezer friend frog frost fruit funnel galaxy gallery garage garden garlic gate gear "
    "ghost giant ginger giraffe girl glacier glass globe glove goal goat gold goose gown grain grape grass "
    "gravel gravy guard guest guide guitar gulf gym hall hammer hammock hamster hand handle harbor harp harvest "
    "hat hawk hay hazel heart hedge heel helmet hen herb hero hill hinge hip hive honey hood hook horn horse "
    "hospital hotel hour house hunter hut ice igloo inch ink inn insect iron island ivory ivy jacket jaguar jail "
    "jam jar jaw jelly jewel journal judge jug juice jungle jury kayak kennel ketchup kettle key king kitchen "
    "kite kitten knee knife knight knot label ladder lady lake lamb lamp lane lantern laptop lark lawn lawyer "
    "leaf leather ledge leg lemon lens leopard letter lettuce library lid light lily lime line lion lip lizard "
    "loaf lobby lobster lock locker log lotion lounge lumber lunch lute magnet maid mailbox manager mango mantle "
    "map marble march market mask mast match mattress mayor meadow meal medal melon menu merchant meteor milk "
    "mill mine mint minute mirror mitten model mole monk monkey month moon moose morning mosque moss moth motor "
    "mountain mouse mouth movie mud muffin mule museum mushroom music mustard nail napkin neck necklace needle "
    "nephew nest net newspaper niece night nose notebook novel nun nurse nut oak oar oasis ocean office oil "
    "olive onion opera orange orbit orchard orchid organ otter oven owl owner ox oyster paddle page palace palm "
    "pan panda panel panther paper parade parcel park parrot parsley party pasta pastry path patient patio pea "
    "peach peacock peanut pear pearl pebble pedal pelican pen pencil penguin pepper perfume piano pickle picnic "
    "picture pie pier pig pigeon pillow pilot pin pine pipe pirate pistol pizza plane planet plant plate "
    "platform plaza plow plum plumber pocket poem poet police pond pony pool porch port postcard poster pot "
    "potato pottery powder prairie priest prince printer prison prize prune pudding puddle pump pumpkin puppet "
    "puppy purse puzzle pyramid quail quarry queen quill quilt rabbit raccoon radar radio radish raft rail rain "
    "rainbow raisin ramp ranch raven razor recipe reef referee reindeer ribbon rice rifle ring river road robe "
    "robin robot rock rocket roof room root rope rose rowboat rudder rug ruler saddle sailor salad salmon salt "
    "sand sandal sandwich satchel sauce sausage saw scale scarf school science scissors scooter scorpion screen "
    "screw seal seat seed senator shadow shark sheep shelf shell shepherd shield ship shirt shoe shore shovel "
    "shower shrimp sidewalk silk silver singer sink sister skate sketch ski skirt skull sky sled sleeve slide "
    "slipper snail snake snow soap sock sofa soil soldier soup spade sparrow spear spider spinach sponge spoon "
    "spring square squid squirrel stable stadium staff stage stair stamp star statue steak steam steel stem "
    "stone stool storm stove stranger straw stream street string student studio submarine subway sugar suit "
    "suitcase summer sun surgeon swamp swan sweater sword syrup table tablet tail tailor tank tape target taxi "
    "tea teacher team teapot telescope temple tennis tent thief thorn thread throat throne thumb thunder ticket "
    "tie tiger tile timber tire toad toast toaster toe tomato tongue tooth torch tortoise towel tower town toy "
    "tractor trail train tray treasure tree triangle trophy trout truck trumpet trunk tub tulip tunnel turkey "
    "turnip turtle twig umbrella uncle uniform union valley van vase vault vegetable veil vest village vine "
    "vinegar violet violin visitor volcano voyage waffle wagon waist waiter walnut walrus wardrobe warrior wasp "
    "watch water wave wax weasel weather wedding week whale wharf wheat wheel whip whistle widow willow window "
    "wing winter wire wizard wolf wood wool workshop worm wreath wrist writer yacht yard yarn year yogurt zebra "
    "zipper zoo ";

constexpr std::string_view kAdjectives =
    "able absent active agile alert amber ample ancient angry annual anxious arctic automatic awake aware awful "
    "bald basic bitter blank blind blunt bold boring brave brief bright brisk broad broken busy calm careful "
    "cautious certain cheap cheerful civil classic clean clear clever close cloudy clumsy coarse cold common "
    "compact complete constant cool costly crazy crisp crooked cruel curious curly cute daily damp dark dear "
    "deep delicate dense dim distant double dry dull dusty eager early easy elastic elegant empty endless equal "
    "exact exotic faint fair faithful familiar famous fancy fast fatal favorite fearless fertile festive fierce "
    "final firm flat fluffy foggy fond formal fragile frank free frequent fresh friendly frozen full funny fuzzy "
    "gentle genuine glad gloomy golden graceful grand grateful grave great greedy grim grumpy handy happy harsh "
    "hasty healthy heavy helpful hidden high hollow honest huge humble hungry icy ideal idle innocent jealous "
    "jolly joyful juicy keen kind large late lazy lean legal level lively local lonely long loose loud lovely "
    "loyal lucky magic main major massive mature mellow merry mighty mild minor misty modern modest moist narrow "
    "nasty native natural near neat nervous nice nimble noble noisy normal numb obvious odd official old open "
    "ordinary outer oval pale peaceful perfect petite plain playful pleasant polite poor popular practical "
    "precious pretty private proper proud public pure purple quaint quick quiet rapid rare raw ready real recent "
    "regal regular rich rigid ripe robust rough round royal rude rural rusty sad safe salty scarce secret secure "
    "selfish serious shallow sharp shiny short shy silent silly simple sincere sleepy slim slow smart smooth "
    "snowy sober social soft solid sour special spicy spotless stale steady steep sticky stiff still stormy "
    "strange strict strong stubborn sturdy subtle sudden sunny super sure sweet swift tall tame tasty tender "
    "tense thick thin thirsty tidy tight tiny tired total tough tragic tranquil tricky true typical ugly unique "
    "upper upset urban urgent useful usual vacant vague vain valid vast velvet vicious violent vital vivid warm "
    "wary weak wealthy weary weird wet whole wicked wide wild wise witty wonderful wooden worthy young zany ";

std::vector<std::string> listed(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

}  // namespace

const std::vector<std::string>& nouns() {
  static const std::vector<std::string> words = listed(kNouns);
  return words;
}

const std::vector<std::string>& adjectives() {
  static const std::vector<std::string> words = listed(kAdjectives);
  return words;
}

}  // namespace lacake::eval
