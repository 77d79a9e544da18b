import { wordsIn } from "../../shared/i18n";
import { en } from "./en";
import { ja } from "./ja";
import { zhHant } from "./zh-Hant";

export const STUDIO_WORDS = { en, ja, "zh-Hant": zhHant };

/** The studio's words for a key, in the reader's language. */
export const s = wordsIn<typeof en>(STUDIO_WORDS);
